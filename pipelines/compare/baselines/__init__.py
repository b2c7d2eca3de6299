"""Baselines of cross-modal hashing, one module per method."""

from .acq import AlternatingCoQuantisation as AlternatingCoQuantisation
from .cca import CcaSign as CcaSign
from .cca import FloatCca as FloatCca
from .cmfh import CollectiveMatrixFactorisation as CollectiveMatrixFactorisation
from .common_space import FloatCosine as FloatCosine
from .common_space import FloatProductQuantiser as FloatProductQuantiser
from .common_space import PcaItq as PcaItq
from .csa import Csa as Csa
from .cvh import CrossViewHashing as CrossViewHashing
from .imh import InterMediaHashing as InterMediaHashing
from .itq import CcaItq as CcaItq
from .itq import CcaItqExtended as CcaItqExtended
from .lsh import RandomHyperplanes as RandomHyperplanes
from .pdh import PredictableDualView as PredictableDualView
from .product_quantisation import CcaProductQuantiser as CcaProductQuantiser
from .qch import QuantisedCorrelation as QuantisedCorrelation
from .ridge_encoder import ridge_encoder as ridge_encoder
from .ridge_retrieval import FloatRidge as FloatRidge
from .scm import SemanticCorrelation as SemanticCorrelation
