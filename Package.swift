// swift-tools-version: 6.0
import PackageDescription

let log = Target.Dependency.product(name: "Logging", package: "swift-log")
let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

// Dependencies only point one way: COpenCL → OpenCLRuntime → TensorCore → Operations → NeuralNetwork, from which
// Vision and Training branch off and never see each other; the commands join them.
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
    .target(name: "Training", dependencies: ["NeuralNetwork", log]),
    .target(
      name: "Fovea",
      dependencies: ["OpenCLRuntime", "TensorCore", "Operations", "NeuralNetwork", "Vision", "Training"]),

    // The commands.
    .target(name: "CommandSupport", dependencies: ["Fovea", argumentParser]),
    .executableTarget(name: "train", dependencies: ["CommandSupport", "Fovea", "NeuralNetwork", argumentParser]),
    .executableTarget(
      name: "FoveaCommand", dependencies: ["CommandSupport", "Fovea", "NeuralNetwork", argumentParser]),

    // Tests. ReferenceOperations is every operation in plain double-precision Swift, loops only.
    .target(name: "ReferenceOperations", path: "Tests/ReferenceOperations"),
    .testTarget(name: "CustomOperationTests", dependencies: ["Fovea"]),
    .testTarget(name: "TutorialTests", dependencies: ["Fovea"]),
    .testTarget(name: "ReferenceOperationsTests", dependencies: ["ReferenceOperations"]),
    .testTarget(
      name: "TiledConvolutionTests",
      dependencies: ["Operations", "TensorCore", "OpenCLRuntime", "ReferenceOperations"]),
    .testTarget(
      name: "VisionTests", dependencies: ["Vision", "NeuralNetwork", "Operations", "TensorCore", "OpenCLRuntime"],
      resources: [.copy("Fixtures")]),
    .testTarget(
      name: "NeuralNetworkTests",
      dependencies: ["NeuralNetwork", "Operations", "TensorCore", "OpenCLRuntime", "ReferenceOperations"]),
    .testTarget(name: "TrainingTests", dependencies: ["Training", "NeuralNetwork"]),
    .testTarget(name: "StepBudgetTests", dependencies: ["Fovea"], resources: [.copy("budgets.json")]),
    .testTarget(name: "OpenCLRuntimeTests", dependencies: ["OpenCLRuntime", "COpenCL"]),
    .testTarget(name: "TensorCoreTests", dependencies: ["TensorCore", "OpenCLRuntime"]),
    .testTarget(
      name: "OperationsTests", dependencies: ["Operations", "TensorCore", "OpenCLRuntime", "ReferenceOperations"]),
  ],
  cLanguageStandard: .c2x
)
