import Actors
import Glibc
import HTTP

/// A log file that is put aside when it has grown to its limit: `name-<time>.ext`, and a new one begun.
///
/// Used under the sink's lock. A disk that refuses a rotation keeps the present file: lines are worth
/// more than the limit.
struct RotatingLogFile: ~Copyable {
  private let path: String
  private let rotation: LogRotation
  private var descriptor: Int32
  private var bytes: Int
  /// Compressing takes seconds; nobody who logs shall wait for it.
  private let compressor: ThreadExecutor?

  /// - Throws: ``LogSinkError`` if the file cannot be opened for appending.
  init(path: String, rotation: LogRotation) throws(LogSinkError) {
    self.path = path
    self.rotation = rotation
    descriptor = try LogOutput.openFile(path, mode: 0o600)
    bytes = Int(lseek(descriptor, 0, SEEK_END))
    compressor = rotation.compresses ? try? ThreadExecutor(name: "apus-log-gzip") : nil
  }

  deinit { close(descriptor) }

  /// Writes a line, into a new file if this one would grow beyond its limit.
  mutating func write(_ line: [UInt8], at time: LogTime) {
    if bytes > 0, bytes + line.count > rotation.fileBytesMax { rotate(at: time) }
    line.withUnsafeBytes { LogOutput.write($0, to: descriptor) }
    bytes += line.count
  }

  private mutating func rotate(at time: LogTime) {
    let names = LogFileNames(path: path)
    let backup = names.backup(at: time, isLocal: rotation.usesLocalTime)
    guard rename(path, backup) == 0 else { return }
    do throws(LogSinkError) {
      let fresh = try LogOutput.openFile(path, mode: 0o600)
      close(descriptor)
      descriptor = fresh
      bytes = 0
    } catch {
      _ = rename(backup, path)
      return
    }
    let housekeeping = LogHousekeeping(names: names, rotation: rotation, now: time.seconds)
    if let compressor {
      compressor.execute { housekeeping.run() }
    } else {
      housekeeping.run()
    }
  }
}

/// How a log file and those before it are called.
struct LogFileNames: Sendable {
  /// With the slash at its end; empty for the working directory.
  let folder: String
  let stem: String
  let suffix: String

  init(path: String) {
    let slash = path.lastIndex(of: "/")
    folder = slash.map { String(path[...$0]) } ?? ""
    let name = slash.map { String(path[path.index(after: $0)...]) } ?? path
    let dot = name.lastIndex(of: ".")
    stem = dot.map { String(name[..<$0]) } ?? name
    suffix = dot.map { String(name[$0...]) } ?? ""
  }

  /// `folder/stem-2026-01-31T09-05-00.123.log`.
  func backup(at time: LogTime, isLocal: Bool) -> String {
    var shown = time
    if !isLocal { shown.zoneOffset = 0 }
    var encoder = LogLineEncoder(format: .console)
    encoder.timestamp(shown)
    // Down to milliseconds, and without characters that file names had better not hold.
    let text = String(decoding: encoder.bytes.prefix(23), as: UTF8.self)
    return folder + stem + "-" + String(text.map { $0 == ":" ? "-" : $0 }) + suffix
  }

  /// Whether `name` is a file put aside, compressed or not.
  func isBackup(_ name: String) -> Bool {
    guard name.hasPrefix(stem + "-") else { return false }
    var rest = name.dropFirst(stem.count + 1)
    if rest.hasSuffix(".gz") { rest = rest.dropLast(3) }
    guard rest.hasSuffix(suffix) else { return false }
    let time = rest.dropLast(suffix.count)
    return time.count == 23
      && time.allSatisfy { ("0"..."9").contains($0) || $0 == "-" || $0 == "T" || $0 == "." }
  }
}

/// Compresses and removes files that were put aside.
private struct LogHousekeeping: Sendable {
  let names: LogFileNames
  let rotation: LogRotation
  /// Unix seconds.
  let now: Int64

  func run() {
    var backups = list()
    if rotation.backupsMax > 0, backups.count > rotation.backupsMax {
      for name in backups[rotation.backupsMax...] { unlink(names.folder + name) }
      backups.removeSubrange(rotation.backupsMax...)
    }
    for name in backups {
      let path = names.folder + name
      if rotation.daysMax > 0, let age = age(of: path), age > Int64(rotation.daysMax) * 86_400 {
        unlink(path)
      } else if rotation.compresses, !name.hasSuffix(".gz") {
        compress(path)
      }
    }
  }

  /// Names, newest first: they sort by time.
  private func list() -> [String] {
    guard let directory = opendir(names.folder.isEmpty ? "." : names.folder) else { return [] }
    defer { closedir(directory) }
    var found: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if names.isBackup(name) { found.append(name) }
    }
    return found.sorted(by: >)
  }

  private func age(of path: String) -> Int64? {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    return now - Int64(status.st_mtim.tv_sec)
  }

  /// The compressed file appears as a whole or not at all.
  private func compress(_ path: String) {
    let source = open(path, O_RDONLY | O_CLOEXEC)
    guard source >= 0 else { return }
    defer { close(source) }
    let count = Int(lseek(source, 0, SEEK_END))
    guard count > 0, count <= Int(UInt32.max),
      let bytes = mmap(nil, count, PROT_READ, MAP_PRIVATE, source, 0), bytes != MAP_FAILED
    else { return }
    let packed = Gzip.compress(UnsafeRawBufferPointer(start: bytes, count: count))
    munmap(bytes, count)
    let building = path + ".gz.tmp"
    let target = open(building, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard target >= 0 else { return }
    packed.withUnsafeBytes { LogOutput.write($0, to: target) }
    let isWhole = lseek(target, 0, SEEK_END) == packed.count
    close(target)
    if isWhole, rename(building, path + ".gz") == 0 { unlink(path) } else { unlink(building) }
  }
}
