"""What do people think of it, and when does that turn? Which small model, asked, tuned or embedded,
notices a surge of bad news best where a labelled text costs a cent?"""

import os

from workbench import Recipe, Study, choice, few_shot, full, integers, knn, logistic, loguniform, peft, setfit, zero_shot
from workbench.tasks import monitoring

ENCODERS, WRITERS = ("minilm-l3", "minilm-l6"), ("smollm2-135m",)

study = Study(
    Recipe(
        # Short texts that people have rated, on four topics. With SENTIMENT=path it is a file or
        # folder of texts and labels of your own, such as financial news; the other variables name
        # columns and the watched label where they are called otherwise.
        task=monitoring(
            os.environ.get("SENTIMENT", "opinions"),
            train=choice(64, 256),
            dev=256,
            text=os.environ.get("SENTIMENT_TEXT"),
            label=os.environ.get("SENTIMENT_LABEL"),
            group=os.environ.get("SENTIMENT_TOPIC"),
            watched=os.environ.get("SENTIMENT_WATCHED", "negative"),
            usual=0.2,  # of a hundred texts that many are negative, and
            surge=0.5,  # so many once the news are bad
            false_alarm_rate=0.05,  # one stream of twenty, of 400 texts each
            max_length=64,
        ),
        model=choice(*ENCODERS, *WRITERS),
        method=choice(
            zero_shot(read="mutual_information", models=WRITERS),
            few_shot(shots=4, read="likelihood", models=WRITERS),
            knn(neighbours=choice(1, 5), models=ENCODERS),
            logistic(C=loguniform(1, 100), models=ENCODERS),
            setfit(learning_rate=loguniform(3e-5, 3e-4), C=10, models=ENCODERS),
            full(learning_rate=loguniform(5e-5, 5e-4), head_learning_rate=0.01, models=ENCODERS),
            peft("lora", learning_rate=loguniform(5e-4, 2e-3), head_learning_rate=0.02, r=8, models=ENCODERS),
        ),
        epochs=integers(1, 4),
        batch_size=8,
    ),
    maximize="alarm_recall",
    minimize="usd",
    label_usd=0.01,
    trials=14,
)
