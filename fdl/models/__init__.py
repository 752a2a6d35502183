"""Architectures as Flax NNX modules: a frozen configuration and a module each."""

from fdl.models.attention import Attention as Attention
from fdl.models.attention import Scores as Scores
from fdl.models.attention import additive as additive
from fdl.models.attention import dot as dot
from fdl.models.attention import general as general
from fdl.models.autoencoder import Autoencoder as Autoencoder
from fdl.models.autoencoder import AutoencoderConfig as AutoencoderConfig
from fdl.models.cnn import CNN as CNN
from fdl.models.cnn import CNNConfig as CNNConfig
from fdl.models.cnn import Stage as Stage
from fdl.models.conv import Conv as Conv
from fdl.models.conv import ConvTranspose as ConvTranspose
from fdl.models.layers import BatchNorm as BatchNorm
from fdl.models.layers import Dropout as Dropout
from fdl.models.layers import bernoulli as bernoulli
from fdl.models.lista import LISTA as LISTA
from fdl.models.lista import LISTAConfig as LISTAConfig
from fdl.models.lista import ista_weights as ista_weights
from fdl.models.lsuv import Scaled as Scaled
from fdl.models.lsuv import lsuv as lsuv
from fdl.models.mlp import MLP as MLP
from fdl.models.mlp import MLPConfig as MLPConfig
from fdl.models.multitask import MultiTaskConfig as MultiTaskConfig
from fdl.models.multitask import MultiTaskMLP as MultiTaskMLP
from fdl.models.noise import GaussianNoise as GaussianNoise
from fdl.models.psd import PSD as PSD
from fdl.models.psd import PSDConfig as PSDConfig
from fdl.models.rbm import RBM as RBM
from fdl.models.rbm import RBMConfig as RBMConfig
from fdl.models.regressor import regressor as regressor
from fdl.models.resnet import ResNet as ResNet
from fdl.models.resnet_config import ResNetConfig as ResNetConfig
from fdl.models.rnn import RNN as RNN
from fdl.models.rnn import Cell as Cell
from fdl.models.rnn import RecurrentCell as RecurrentCell
from fdl.models.rnn import RNNConfig as RNNConfig
from fdl.models.rnn import elman as elman
from fdl.models.rnn import gru as gru
from fdl.models.rnn import lstm as lstm
from fdl.models.rnn_lm import RNNLM as RNNLM
from fdl.models.rnn_lm import RNNLMConfig as RNNLMConfig
from fdl.models.seq2seq import Seq2Seq as Seq2Seq
from fdl.models.seq2seq import Seq2SeqConfig as Seq2SeqConfig
from fdl.models.stack import StackedLayer as StackedLayer
from fdl.models.stack import stack_layers as stack_layers
from fdl.models.stack import tanh_as_sigmoid as tanh_as_sigmoid
from fdl.models.standardised_conv import StandardisedConv as StandardisedConv
from fdl.models.streams import draw as draw
from fdl.models.units import RBF as RBF
from fdl.models.units import Affine as Affine
from fdl.models.units import Dense as Dense
from fdl.models.units import HiddenLayer as HiddenLayer
from fdl.models.units import Maxout as Maxout
from fdl.models.units import PReLU as PReLU
from fdl.models.units import dense as dense
from fdl.models.units import maxout as maxout
from fdl.models.units import prelu as prelu
from fdl.models.units import rbf as rbf
from fdl.models.vae import VAE as VAE
from fdl.models.vae import Posterior as Posterior
from fdl.models.vae import Reconstruction as Reconstruction
from fdl.models.vae import VAEConfig as VAEConfig

__all__ = [
    "CNN",
    "LISTA",
    "MLP",
    "PSD",
    "RBF",
    "RBM",
    "RNN",
    "RNNLM",
    "VAE",
    "Affine",
    "Attention",
    "Autoencoder",
    "AutoencoderConfig",
    "BatchNorm",
    "CNNConfig",
    "Cell",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Dropout",
    "GaussianNoise",
    "HiddenLayer",
    "LISTAConfig",
    "MLPConfig",
    "Maxout",
    "MultiTaskConfig",
    "MultiTaskMLP",
    "PReLU",
    "PSDConfig",
    "Posterior",
    "RBMConfig",
    "RNNConfig",
    "RNNLMConfig",
    "Reconstruction",
    "RecurrentCell",
    "ResNet",
    "ResNetConfig",
    "Scaled",
    "Scores",
    "Seq2Seq",
    "Seq2SeqConfig",
    "Stage",
    "StackedLayer",
    "StandardisedConv",
    "VAEConfig",
    "additive",
    "bernoulli",
    "dense",
    "dot",
    "draw",
    "elman",
    "general",
    "gru",
    "ista_weights",
    "lstm",
    "lsuv",
    "maxout",
    "prelu",
    "rbf",
    "regressor",
    "stack_layers",
    "tanh_as_sigmoid",
]
