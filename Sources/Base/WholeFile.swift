internal import Glibc

/// Small files, read at once: certificates, keys.
public enum WholeFile {
  /// Why a file cannot be read, as Go says it: `open P: no such file or directory`.
  public struct Failure: Error, Equatable, CustomStringConvertible {
    public let description: String
  }

  public static func read(_ path: String) throws(Failure) -> Bytes {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure("open", path) }
    defer { close(descriptor) }
    var bytes = Bytes()
    var buffer = Bytes(repeating: 0, count: 1 << 14)
    while true {
      let count = Glibc.read(descriptor, &buffer, buffer.count)
      guard count >= 0 else { throw failure("read", path) }
      if count == 0 { return bytes }
      bytes += buffer[..<count]
    }
  }

  private static func failure(_ call: String, _ path: String) -> Failure {
    Failure(description: "\(call) \(path): \(systemText(errno))")
  }
}

/// What an error number of the system means, in lower case as Go writes it.
public func systemText(_ number: Int32) -> String {
  let text = strerror(number).map { String(cString: $0) } ?? "error \(number)"
  return text.prefix(1).lowercased() + text.dropFirst()
}
