"""The kinds of numbers that settings are, each with its bounds, and what every table of them is."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0, le=1_000_000_000)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
PositiveFloat = Annotated[float, Field(gt=0, le=1e6)]
NonNegative = Annotated[int, Field(ge=0, le=1_000_000_000)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(gt=0, le=1_000_000)]
Size = Annotated[int, Field(gt=0, le=8_192)]
Seconds = Annotated[float, Field(ge=0, le=3_600)]
Range = Annotated[float, Field(ge=0.01, le=1_000)]
Rate = Annotated[float, Field(gt=0, le=10)]


class Table(BaseModel):
    """What every table of a config is: typed, frozen and strict."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
