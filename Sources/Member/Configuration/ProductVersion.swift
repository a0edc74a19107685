/// The versions this program reports.
public enum ProductVersion {
  /// The API level: in Status, `/version`, metrics, and to peers.
  public static let etcd = "3.7.1"
  /// The cluster version a cluster of such members settles on.
  public static let etcdMinor = "3.7.0"
  public static let apus = "0.1.0"

  /// The compiler, as far as it can be told.
  static let toolchain: String = {
    #if swift(>=6.3)
      "swift6.3"
    #elseif swift(>=6.2)
      "swift6.2"
    #else
      "swift6"
    #endif
  }()

  /// Go's names for the platform, which tools expect.
  static let platform: String = {
    #if arch(x86_64)
      let cpu = "amd64"
    #elseif arch(arm64)
      let cpu = "arm64"
    #else
      let cpu = "unknown"
    #endif
    #if os(Linux)
      return "linux/" + cpu
    #else
      return "darwin/" + cpu
    #endif
  }()

  /// The answer to `--version`: etcd's four lines, then our own.
  static let text = """
    etcd Version: \(etcd)
    Git SHA: none
    Go Version: none
    Go OS/Arch: \(platform)
    Apus Version: \(apus)

    """
}
