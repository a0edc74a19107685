/// A strict `X.Y.Z` version of etcd's peer headers.
struct PeerVersion: Equatable, Comparable {
  let major: Int
  let minor: Int
  let patch: Int

  init(_ major: Int, _ minor: Int, _ patch: Int) {
    self.major = major
    self.minor = minor
    self.patch = patch
  }

  /// nil unless the text is three decimal numbers, perhaps followed by `-pre` or `+build`.
  init?(_ text: String) {
    let core = text.prefix { $0 != "-" && $0 != "+" }
    let parts = core.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3, parts.allSatisfy({ $0.utf8.allSatisfy(Self.isDigit) }),
      let major = Int(parts[0]), let minor = Int(parts[1]), let patch = Int(parts[2])
    else { return nil }
    self.init(major, minor, patch)
  }

  private static func isDigit(_ byte: UInt8) -> Bool {
    byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
  }

  static func < (left: PeerVersion, right: PeerVersion) -> Bool {
    (left.major, left.minor, left.patch) < (right.major, right.minor, right.patch)
  }

  /// Compares without the patch.
  func isOlderMinor(than other: PeerVersion) -> Bool {
    (major, minor) < (other.major, other.minor)
  }

  /// What a peer without a version header counts as.
  static let absent = PeerVersion(2, 0, 0)
  /// The oldest cluster that this member can be part of.
  static let minimumCluster = PeerVersion(3, 0, 0)
  /// The oldest server that has both streams.
  static let oldestWithStreams = PeerVersion(2, 1, 0)
}
