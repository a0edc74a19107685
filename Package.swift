// swift-tools-version: 6.1
import PackageDescription

let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .enableUpcomingFeature("InferIsolatedConformances"),
]

let protobuf = Target.Dependency.product(name: "SwiftProtobuf", package: "swift-protobuf")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let histogram = Target.Dependency.product(name: "Histogram", package: "hdrhistogram-swift")

let package = Package(
  name: "Apus",
  products: [
    .executable(name: "apus", targets: ["apus"]),
    .executable(name: "apusctl", targets: ["apusctl"]),
    .executable(name: "launcher", targets: ["launcher"]),
    .executable(name: "apus-bench", targets: ["apus-bench"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-protobuf", exact: "1.39.0"),
    .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", exact: "0.2.0"),
  ],
  targets: [
    // System libraries: a header and a module map each.
    .systemLibrary(name: "CLibUV", pkgConfig: "libuv", providers: [.apt(["libuv1-dev"])]),
    .systemLibrary(
      name: "CNGHTTP2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),
    .systemLibrary(name: "CLMDB", providers: [.apt(["liblmdb-dev"])]),
    .systemLibrary(name: "COpenSSL", pkgConfig: "libssl", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CCrypt", providers: [.apt(["libcrypt-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CHTTPParser", providers: [.apt(["libhttp-parser-dev"])]),
    .systemLibrary(
      name: "CLibYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
    .systemLibrary(name: "CResolver"),
    .systemLibrary(name: "CIntrinsics"),

    // Libraries, lowest first: each imports only what stands above it here.
    .target(name: "Base", dependencies: ["CIntrinsics"], swiftSettings: settings),
    .target(
      name: "EtcdAPI", dependencies: [protobuf], swiftSettings: [.swiftLanguageMode(.v6)]),
    .target(name: "YAML", dependencies: ["CLibYAML"], swiftSettings: settings),
    .target(
      name: "Actors", dependencies: ["Base", "CIntrinsics", "CLibUV", "CResolver"],
      swiftSettings: settings),
    .target(name: "TLS", dependencies: ["Base", "Actors", "COpenSSL"], swiftSettings: settings),
    .target(
      name: "HTTP", dependencies: ["Base", "CNGHTTP2", "CZlib", "CHTTPParser"],
      swiftSettings: settings),
    .target(name: "RaftActor", dependencies: ["Base", "Actors"], swiftSettings: settings),
    .target(
      name: "StoreActor",
      dependencies: [
        "Base", "EtcdAPI", "Actors", "RaftActor", "CIntrinsics", "CLMDB", "COpenSSL", "CCrypt",
        protobuf,
      ],
      swiftSettings: settings),
    .target(
      name: "Member",
      dependencies: [
        "Base", "EtcdAPI", "Actors", "TLS", "HTTP", "RaftActor", "StoreActor", "COpenSSL",
        "YAML", "CIntrinsics", protobuf,
      ],
      swiftSettings: settings),
    .target(
      name: "EtcdClient",
      dependencies: ["Base", "EtcdAPI", "Actors", "TLS", "HTTP", protobuf],
      swiftSettings: settings),

    .target(
      name: "Simulation",
      dependencies: ["Base", "EtcdAPI", "Actors", "RaftActor", "StoreActor", protobuf],
      swiftSettings: settings),

    // Programs.
    .executableTarget(name: "apus", dependencies: ["Member", "Base"], swiftSettings: settings),
    .executableTarget(
      name: "apusctl",
      dependencies: ["EtcdClient", "EtcdAPI", "Base", "Actors", "TLS", protobuf],
      swiftSettings: settings),
    .executableTarget(
      name: "launcher",
      dependencies: ["Actors", "TLS", "EtcdAPI", "EtcdClient", "YAML", arguments, protobuf],
      swiftSettings: settings),
    .executableTarget(
      name: "apus-bench",
      dependencies: [
        "Actors", "Base", "CNGHTTP2", "EtcdAPI", "EtcdClient", "TLS", arguments, histogram,
      ],
      swiftSettings: settings),
    .executableTarget(
      name: "simulate", dependencies: ["Simulation", "Base", arguments], swiftSettings: settings),
    .executableTarget(
      name: "fuzz",
      dependencies: [
        "Base", "EtcdAPI", "HTTP", "RaftActor", "StoreActor", "Member", "Simulation", protobuf,
        arguments,
      ],
      swiftSettings: settings),

    // Counted by scripts/test budget.
    .executableTarget(
      name: "hot-paths",
      dependencies: ["Base", "EtcdAPI", "HTTP", "RaftActor", "StoreActor", protobuf],
      path: "Tests/Budget/HotPaths", swiftSettings: settings),

    .target(
      name: "TestSupport", dependencies: ["Actors"], path: "Tests/Support",
      swiftSettings: settings),
    .testTarget(name: "YAMLTests", dependencies: ["YAML"], swiftSettings: settings),
    .testTarget(
      name: "ActorsTests", dependencies: ["Actors", "Base"], swiftSettings: settings),
    .testTarget(
      name: "TLSTests", dependencies: ["TLS", "Actors", "Base", "COpenSSL"],
      swiftSettings: settings),
    .testTarget(name: "HTTPTests", dependencies: ["HTTP", "Base"], swiftSettings: settings),
    .testTarget(
      name: "RaftActorTests", dependencies: ["RaftActor", "Actors", "Base", "TestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "StoreActorTests",
      dependencies: ["StoreActor", "Actors", "Base", "EtcdAPI", "TestSupport", protobuf],
      swiftSettings: settings),
    .testTarget(
      name: "MemberTests",
      dependencies: [
        "Member", "Base", "Actors", "HTTP", "RaftActor", "StoreActor", "EtcdAPI", protobuf,
      ],
      swiftSettings: settings),
    .testTarget(
      name: "EtcdClientTests",
      dependencies: ["EtcdClient", "EtcdAPI", "Base", "Actors", "HTTP", protobuf],
      swiftSettings: settings),
    .testTarget(
      name: "ApusctlTests", dependencies: ["apusctl", "EtcdClient", "EtcdAPI", "Base", protobuf],
      swiftSettings: settings),
    .testTarget(
      name: "SimulationTests", dependencies: ["Simulation", "Base", "RaftActor", "StoreActor"],
      swiftSettings: settings),
    .testTarget(
      name: "launcherTests", dependencies: ["launcher", "Actors", arguments],
      swiftSettings: settings),
  ]
)
