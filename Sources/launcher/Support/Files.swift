// Small files and paths. Everything here blocks for a few system calls.

import Glibc

/// A system call failed; worded for people.
struct SystemError: Error, CustomStringConvertible {
  let description: String

  init(_ operation: String, errno number: Int32) {
    description = "\(operation): \(systemText(number))"
  }
}

/// The system's text for an error number, for example `no such file or directory`.
func systemText(_ number: Int32) -> String {
  let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
    guard let base = buffer.baseAddress, strerror_r(number, base, buffer.count) == 0 else {
      return "error \(number)"
    }
    return String(cString: base)
  }
  return text.prefix(1).lowercased() + text.dropFirst()
}

enum Files {
  /// Reads a whole file of at most `bytesMax`; files of `/proc`, which have no size, too.
  static func read(_ path: String, bytesMax: Int = 16 << 20) throws(SystemError) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw SystemError("read \(path)", errno: errno) }
    defer { close(descriptor) }
    var content: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 * 1024)
    while content.count < bytesMax {
      let count = Glibc.read(descriptor, &chunk, chunk.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw SystemError("read \(path)", errno: errno) }
      if count == 0 { break }
      content.append(contentsOf: chunk[..<count])
    }
    return String(decoding: content, as: UTF8.self)
  }

  /// Replaces a file in one step, so that no reader ever sees half of it.
  ///
  /// - Parameter keepsMode: others may read it if they could before; else it is for the owner only.
  static func replace(
    _ path: String, with text: String, keepsMode: Bool = false
  ) throws(SystemError) {
    let temporary = path + ".new"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw SystemError("write \(temporary)", errno: errno) }
    let isWritten = writeAll(descriptor, text)
    let number = errno
    close(descriptor)
    guard isWritten else { throw SystemError("write \(temporary)", errno: number) }
    var before = stat()
    if keepsMode, stat(path, &before) == 0 { chmod(temporary, before.st_mode & 0o777) }
    guard rename(temporary, path) == 0 else { throw SystemError("write \(path)", errno: errno) }
  }

  /// Writes everything; false with `errno` set if the system refuses.
  @discardableResult
  static func writeAll(_ descriptor: Int32, _ text: String) -> Bool {
    var text = text
    return text.withUTF8 { bytes in
      var sent = 0
      while sent < bytes.count {
        let count = write(descriptor, bytes.baseAddress?.advanced(by: sent), bytes.count - sent)
        if count < 0 && errno == EINTR { continue }
        if count < 0 { return false }
        sent += count
      }
      return true
    }
  }

  /// Renames a folder to `name`, or to `name.2`, `name.3` and so on if there is one already.
  ///
  /// - Returns: its new path.
  static func putAside(_ path: String, as name: String) throws(SystemError) -> String {
    var target = name
    var number = 1
    while exists(target) {
      number += 1
      target = "\(name).\(number)"
    }
    guard rename(path, target) == 0 else { throw SystemError("rename \(path)", errno: errno) }
    return target
  }

  static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  static func isDirectory(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  /// Makes a folder, and those above it, for the owner only. A folder that exists is left as it is.
  static func makeDirectory(_ path: String) throws(SystemError) {
    if isDirectory(path) { return }
    let parent = folder(of: path)
    if parent != path && !exists(parent) { try makeDirectory(parent) }
    if mkdir(path, 0o700) != 0 && errno != EEXIST {
      throw SystemError("make directory \(path)", errno: errno)
    }
    guard isDirectory(path) else { throw SystemError("make directory \(path)", errno: ENOTDIR) }
  }

  /// The folder that a path lies in: `.` for a bare name.
  static func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  static func name(of path: String) -> String {
    path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
  }

  /// `path` as seen from `folder`, unless it is absolute.
  static func join(_ folder: String, _ path: String) -> String {
    if path.hasPrefix("/") || folder == "." { return path }
    return folder.hasSuffix("/") ? folder + path : folder + "/" + path
  }

  /// The target of a symbolic link.
  static func linkTarget(_ path: String) -> String? {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX)) { buffer in
      guard let base = buffer.baseAddress else { return nil }
      let count = readlink(path, base, buffer.count)
      guard count > 0 else { return nil }
      return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
  }

  static func entries(of path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
  }
}
