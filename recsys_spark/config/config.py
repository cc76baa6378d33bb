"""The whole configuration: all sections, and the rules across them."""

from __future__ import annotations

from pydantic import model_validator

from recsys_spark.columns import NETWORK
from recsys_spark.config import checks
from recsys_spark.config.baselines import Baselines
from recsys_spark.config.clean import Clean
from recsys_spark.config.evaluate import Evaluate
from recsys_spark.config.features import Features
from recsys_spark.config.paths import Paths
from recsys_spark.config.publish import Publish
from recsys_spark.config.score import Score
from recsys_spark.config.section import Section
from recsys_spark.config.session import Session
from recsys_spark.config.split import Split
from recsys_spark.config.train import Train


class Config(Section):
    """The configuration of a run."""

    paths: Paths
    session: Session = Session()
    clean: Clean = Clean()
    split: Split = Split()
    baselines: Baselines = Baselines()
    features: Features = Features()
    train: Train = Train()
    score: Score = Score()
    evaluate: Evaluate = Evaluate()
    publish: Publish = Publish()

    @property
    def models(self) -> list[str]:
        """The names of the item models of a night, in the order of `baselines.models`, the network last."""
        return [*self.baselines.models, *([NETWORK] if self.train.enabled else [])]

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        faults = list(checks.faults(self))
        if faults:
            raise ValueError("\n".join(faults))
        return self
