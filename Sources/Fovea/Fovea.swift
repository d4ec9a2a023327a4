// The whole library behind one import.
@_exported import NeuralNetwork
@_exported import OpenCLRuntime
@_exported import Operations
@_exported import TensorCore
@_exported import Training
@_exported import Vision
