"""The network: DSAML as in Figures 2 and 3, its layers, the released code's checkpoints."""

from dsaml.config import ModelConfig as ModelConfig
from dsaml.model.dsaml import DSAML as DSAML
from dsaml.model.released import load_released as load_released
