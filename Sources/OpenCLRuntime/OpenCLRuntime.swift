// OpenCLRuntime
