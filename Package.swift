// swift-tools-version: 6.0
import PackageDescription

let log = Target.Dependency.product(name: "Logging", package: "swift-log")
let protobuf = Target.Dependency.product(name: "SwiftProtobuf", package: "swift-protobuf")
let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

// Dependencies only point one way: COpenCL → OpenCLRuntime → TensorCore → Operations → NeuralNetwork, from which
// Vision and Training, over TensorBoard, branch off and never see each other; the commands join them.
let package = Package(
  name: "Fovea",
  platforms: [.macOS(.v15)],
  products: [
    .library(name: "Fovea", targets: ["Fovea"]),
    .executable(name: "train", targets: ["train"]),
    .executable(name: "fovea", targets: ["FoveaCommand"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
  ],
  targets: [
    // C: the OpenCL loader, the embedded kernels, the image libraries.
    .systemLibrary(
      name: "COpenCL", pkgConfig: "OpenCL",
      providers: [.apt(["ocl-icd-opencl-dev", "opencl-c-headers"])]),
    // apt: libjpeg-dev libpng-dev libwebp-dev
    .target(
      name: "CImageCodecs",
      linkerSettings: [
        .linkedLibrary("jpeg"), .linkedLibrary("png"), .linkedLibrary("webp"), .linkedLibrary("webpdemux"),
      ]),
    .target(name: "Kernels", path: "Kernels", sources: ["Kernels.c"]),

    // The framework.
    .target(name: "OpenCLRuntime", dependencies: ["COpenCL"]),
    .target(name: "TensorCore", dependencies: ["OpenCLRuntime"]),
    .target(name: "Operations", dependencies: ["TensorCore", "OpenCLRuntime", "Kernels"]),
    .target(name: "NeuralNetwork", dependencies: ["Operations", "TensorCore", "OpenCLRuntime"]),
    .target(
      name: "Vision",
      dependencies: ["CImageCodecs", "NeuralNetwork", "Operations", "TensorCore", "OpenCLRuntime"]),
    // Event files; event.pb.swift is generated from event.proto.
    .target(name: "TensorBoard", dependencies: ["NeuralNetwork", protobuf], exclude: ["event.proto"]),
    .target(name: "Training", dependencies: ["NeuralNetwork", "TensorBoard", log]),
    .target(
      name: "Fovea",
      dependencies: ["OpenCLRuntime", "TensorCore", "Operations", "NeuralNetwork", "Vision", "Training"]),

    // What checks it. ReferenceOperations is every operation in plain double-precision Swift, loops only.
    .target(name: "ReferenceOperations"),
    .target(
      name: "KernelVerification",
      dependencies: ["NeuralNetwork", "Operations", "TensorCore", "OpenCLRuntime", "ReferenceOperations"]),
    // ONNX: the format's messages, which Scripts/generate_onnx_format generated, and the models written in them.
    .target(name: "ONNXFormat", dependencies: [protobuf]),
    .target(
      name: "ONNXExport",
      dependencies: ["ONNXFormat", "Vision", "NeuralNetwork", "Operations", "TensorCore", protobuf]),

    // The commands.
    .target(name: "CommandSupport", dependencies: ["Fovea", "NeuralNetwork", "KernelVerification", argumentParser]),
    .executableTarget(name: "train", dependencies: ["CommandSupport", "Fovea", "NeuralNetwork", argumentParser]),
    .executableTarget(
      name: "FoveaCommand",
      dependencies: [
        "CommandSupport", "Fovea", "KernelVerification", "NeuralNetwork", "ONNXExport", argumentParser,
      ]),

    // Tests.
    .testTarget(name: "CustomOperationTests", dependencies: ["Fovea"]),
    .testTarget(name: "TutorialTests", dependencies: ["Fovea"]),
    .testTarget(name: "ReferenceOperationsTests", dependencies: ["ReferenceOperations"]),
    .testTarget(
      name: "TiledConvolutionTests",
      dependencies: ["Operations", "TensorCore", "OpenCLRuntime", "ReferenceOperations"]),
    .testTarget(
      name: "VisionTests",
      dependencies: ["Vision", "NeuralNetwork", "Operations", "TensorCore", "OpenCLRuntime", "KernelVerification"],
      resources: [.copy("Fixtures")]),
    .testTarget(
      name: "NeuralNetworkTests",
      dependencies: [
        "NeuralNetwork", "Operations", "TensorCore", "OpenCLRuntime", "ReferenceOperations", "KernelVerification",
      ]),
    .testTarget(name: "TensorBoardTests", dependencies: ["TensorBoard", protobuf]),
    .testTarget(
      name: "TrainingTests", dependencies: ["Training", "NeuralNetwork", "Operations", "TensorCore", "OpenCLRuntime"]),
    .testTarget(name: "TrainCommandTests", dependencies: ["train", "CommandSupport", "Fovea", argumentParser]),
    .testTarget(
      name: "KernelVerificationTests",
      dependencies: ["FoveaCommand", "CommandSupport", "Fovea", "KernelVerification", "ReferenceOperations"]),
    .testTarget(
      name: "ONNXExportTests",
      dependencies: [
        "ONNXExport", "ONNXFormat", "Vision", "NeuralNetwork", "Operations", "OpenCLRuntime", "TensorCore", protobuf,
      ]),
    .testTarget(
      name: "FoveaCommandTests",
      dependencies: ["FoveaCommand", "CommandSupport", "Fovea", "KernelVerification", argumentParser]),
    .testTarget(name: "CommandSupportTests", dependencies: ["CommandSupport", "Fovea", argumentParser]),
    .testTarget(name: "StepBudgetTests", dependencies: ["Fovea"], resources: [.copy("budgets.json")]),
    .testTarget(name: "OpenCLRuntimeTests", dependencies: ["OpenCLRuntime", "COpenCL"]),
    .testTarget(name: "TensorCoreTests", dependencies: ["TensorCore", "OpenCLRuntime"]),
    .testTarget(
      name: "OperationsTests",
      dependencies: ["Operations", "TensorCore", "OpenCLRuntime", "ReferenceOperations", "KernelVerification"]),
  ],
  cLanguageStandard: .c2x
)
