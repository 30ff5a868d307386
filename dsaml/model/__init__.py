"""The network: DSAML as in Figures 2 and 3, its layers."""

from dsaml.config import ModelConfig as ModelConfig
from dsaml.model.dsaml import DSAML as DSAML
