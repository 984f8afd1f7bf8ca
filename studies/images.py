"""Which small model, trained from scratch or by its head alone, tells handwritten digits best per dollar?"""

import os

from workbench import Recipe, Study, bitfit, choice, full, head, integers, loguniform
from workbench.tasks import image_classification

study = Study(
    Recipe(
        # Handwritten digits that scikit-learn carries. With IMAGES=path it is a folder with a folder of images for each class.
        task=image_classification(os.environ.get("IMAGES", "digits"), train=choice(256, 1024)),
        # Their weights are drawn and have learned nothing: `head` reads what drawn weights show.
        # Of the hub, by name: "facebook/deit-tiny-patch16-224", at lower learning rates.
        model=choice("convnext-scratch", "vit-scratch"),
        method=choice(
            # A head is new, and learns at a higher rate than what lies below it.
            full(learning_rate=loguniform(1e-3, 4e-3)),
            bitfit(learning_rate=loguniform(5e-4, 5e-3), head_learning_rate=0.05),
            head(learning_rate=loguniform(1e-2, 1e-1)),
        ),
        epochs=integers(4, 8),
        batch_size=16,
    ),
    maximize="accuracy",
    minimize="usd",
    trials=20,
)
