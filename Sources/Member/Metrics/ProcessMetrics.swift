#if canImport(Glibc)
  import Glibc
#endif

/// What the kernel knows about this process, read from /proc at each scrape.
enum ProcessMetrics {
  static func register(in registry: MetricsRegistry) {
    let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
    let page = Double(sysconf(Int32(_SC_PAGESIZE)))
    registry.computed(
      "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.",
      kind: .counter
    ) { stat().map { Double($0.cpuTicks) / ticks } }
    registry.computed(
      "process_resident_memory_bytes", "Resident memory size in bytes.", kind: .gauge
    ) { stat().map { Double($0.residentPages) * page } }
    registry.computed(
      "process_virtual_memory_bytes", "Virtual memory size in bytes.", kind: .gauge
    ) { stat().map { Double($0.virtualBytes) } }
    registry.computed(
      "process_virtual_memory_max_bytes",
      "Maximum amount of virtual memory available in bytes.", kind: .gauge
    ) { limit(RLIMIT_AS) }
    let start = startTime(ticksPerSecond: ticks)
    registry.computed(
      "process_start_time_seconds",
      "Start time of the process since unix epoch in seconds.", kind: .gauge
    ) { start }
    for (used, most) in [("process_open_fds", "process_max_fds"), ("os_fd_used", "os_fd_limit")] {
      registry.computed(used, "Number of open file descriptors.", kind: .gauge) {
        openDescriptors().map(Double.init)
      }
      registry.computed(most, "Maximum number of open file descriptors.", kind: .gauge) {
        limit(RLIMIT_NOFILE)
      }
    }
  }

  /// The fields of `/proc/self/stat` that are exported.
  struct Stat: Equatable {
    var cpuTicks: UInt64
    var startTicks: UInt64
    var virtualBytes: UInt64
    var residentPages: UInt64

    /// The second field, the program's name, may hold blanks and brackets; the rest follows the
    /// last closing one.
    init?(_ text: String) {
      guard let bracket = text.lastIndex(of: ")") else { return nil }
      let fields = text[text.index(after: bracket)...].split(whereSeparator: \.isWhitespace)
      guard fields.count > 21, let user = UInt64(fields[11]), let system = UInt64(fields[12]),
        let start = UInt64(fields[19]), let virtual = UInt64(fields[20]),
        let resident = UInt64(fields[21])
      else { return nil }
      cpuTicks = user + system
      startTicks = start
      virtualBytes = virtual
      residentPages = resident
    }
  }

  private static func stat() -> Stat? { read("/proc/self/stat").flatMap(Stat.init) }

  /// The boot time plus the process's own start after it.
  private static func startTime(ticksPerSecond: Double) -> Double? {
    guard let stat = stat(), let boot = read("/proc/stat").flatMap(bootTime) else { return nil }
    return Double(boot) + Double(stat.startTicks) / ticksPerSecond
  }

  static func bootTime(_ text: String) -> UInt64? {
    for line in text.split(separator: "\n") where line.hasPrefix("btime ") {
      return UInt64(line.dropFirst(6))
    }
    return nil
  }

  static func limit(_ resource: __rlimit_resource) -> Double? {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0 else { return nil }
    return Double(limit.rlim_cur)
  }

  static func openDescriptors() -> Int? {
    guard let directory = opendir("/proc/self/fd") else { return nil }
    defer { closedir(directory) }
    var count = 0
    while let entry = readdir(directory) {
      // Neither `.` and `..` nor the descriptor of this very listing.
      if entry.pointee.d_name.0 != CChar(UInt8(ascii: ".")) { count += 1 }
    }
    return count - 1
  }

  /// The text of a file that has no size, as those below /proc; nil if it cannot be read.
  static func read(_ path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 8_192)
    while true {
      let count = Glibc.read(descriptor, &chunk, chunk.count)
      if count <= 0 { break }
      bytes.append(contentsOf: chunk[..<count])
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
