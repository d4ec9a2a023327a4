/// Every operation in double precision: loops only, meant to be read and to be trusted, not to be fast.
///
/// Each gradient stands directly below its function. It takes the inputs of the function and `gradient`, the gradient
/// of the loss with respect to the function's result, and returns the gradients with respect to the inputs.
public enum Reference {}
