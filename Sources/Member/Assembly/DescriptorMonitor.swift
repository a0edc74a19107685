import Glibc

/// Warns before the process runs out of file descriptors, without which no client can connect.
enum DescriptorMonitor {
  static let periodMilliseconds = 600_000

  static func check(_ log: EtcdLogger) {
    guard let used = ProcessMetrics.openDescriptors(),
      let limit = ProcessMetrics.limit(RLIMIT_NOFILE), Double(used) >= 0.8 * limit
    else { return }
    log.warn(
      "80% of file descriptors are used", ("used", used), ("limit", UInt64(limit)),
      ("advice", "raise the limit: ulimit -n, or LimitNOFILE in the unit"))
  }
}
