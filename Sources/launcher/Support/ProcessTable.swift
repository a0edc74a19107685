// What /proc knows about processes and their sockets.

import Glibc

/// A process that cannot be mistaken for a later one with the same id.
struct ProcessIdentity: Equatable, Sendable {
  let pid: Int32
  /// In the kernel's ticks since the machine was started.
  let startTicks: UInt64
}

struct ProcessStatus: Equatable, Sendable {
  /// `R`, `S`, `T` (stopped), `Z` (dead, not yet collected), ...
  let state: Character
  let startTicks: UInt64

  /// Parses `/proc/PID/stat`. The second field, in brackets, may hold anything.
  init?(parsing text: String) {
    guard let bracket = text.lastIndex(of: ")") else { return nil }
    let fields = text[text.index(after: bracket)...].split(separator: " ")
    // These are fields 3 and 22 of the line.
    guard fields.count > 19, let state = fields[0].first, let ticks = UInt64(fields[19]) else {
      return nil
    }
    self.state = state
    startTicks = ticks
  }
}

enum ProcessTable {
  static func status(of pid: Int32) -> ProcessStatus? {
    (try? Files.read("/proc/\(pid)/stat")).flatMap { ProcessStatus(parsing: $0) }
  }

  static func identity(of pid: Int32) -> ProcessIdentity? {
    status(of: pid).map { ProcessIdentity(pid: pid, startTicks: $0.startTicks) }
  }

  /// True if that very process is still there and not merely waiting to be collected.
  static func isAlive(_ identity: ProcessIdentity) -> Bool {
    guard let status = status(of: identity.pid) else { return false }
    return status.startTicks == identity.startTicks && status.state != "Z"
  }

  /// The name of a process's program, at most 15 bytes.
  static func name(of pid: Int32) -> String? {
    guard let text = try? Files.read("/proc/\(pid)/comm") else { return nil }
    return text.hasSuffix("\n") ? String(text.dropLast()) : text
  }

  /// A process that listens on a TCP port, as far as this user may see it.
  static func listener(onPort port: UInt16) -> (pid: Int32, name: String)? {
    let inodes = ["/proc/net/tcp", "/proc/net/tcp6"].flatMap { path in
      listeningInodes((try? Files.read(path)) ?? "", port: port)
    }
    if inodes.isEmpty { return nil }
    let targets = inodes.map { "socket:[\($0)]" }
    for pid in Files.entries(of: "/proc").compactMap({ Int32($0) }).sorted() {
      let folder = "/proc/\(pid)/fd"
      for entry in Files.entries(of: folder) {
        guard let target = Files.linkTarget(folder + "/" + entry) else { continue }
        if targets.contains(target) { return (pid, name(of: pid) ?? "?") }
      }
    }
    return nil
  }

  /// Inodes of the listening sockets of `/proc/net/tcp` that are bound to a port.
  static func listeningInodes(_ table: String, port: UInt16) -> [String] {
    table.split(separator: "\n").dropFirst().compactMap { line in
      let fields = line.split(separator: " ", omittingEmptySubsequences: true)
      // State 0A is LISTEN; the local address is HEX:PORT.
      guard fields.count > 9, fields[3] == "0A", let colon = fields[1].lastIndex(of: ":"),
        UInt16(fields[1][fields[1].index(after: colon)...], radix: 16) == port
      else { return nil }
      return String(fields[9])
    }
  }
}
