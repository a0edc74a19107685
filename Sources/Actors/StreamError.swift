// Errors of sockets and processes, worded as Go words them, since etcd's users know those texts.

import CLibUV
import Glibc

/// An operation on a stream failed.
public struct StreamError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Go's wording, for example `dial tcp 127.0.0.1:1: connect: connection refused`.
  public let description: String
  /// The system's error number; 0 where there is none (a timeout of ours, an unknown host).
  public let errno: Int32
  /// The caller's time limit or the system's has passed.
  public let isTimeout: Bool

  init(_ prefix: String, errno: Int32) {
    self.description = "\(prefix): \(errnoText(errno))"
    self.errno = errno
    self.isTimeout = errno == ETIMEDOUT
  }

  /// What a ``StreamSecurity`` found wrong.
  public init(_ description: String, isTimeout: Bool = false) {
    self.description = description
    self.errno = 0
    self.isTimeout = isTimeout
  }

  init(timeout prefix: String) {
    self.description = "\(prefix): i/o timeout"
    self.errno = 0
    self.isTimeout = true
  }

  init(lookup host: String, status: Int32) {
    let unknown = status == UV_EAI_NONAME.rawValue || status == UV_EAI_NODATA.rawValue
    let reason = unknown ? "no such host" : errnoText(-status)
    self.description = "dial tcp: lookup \(host): \(reason)"
    self.errno = 0
    self.isTimeout = false
  }
}

/// A listener could not be opened.
public struct ListenError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Go's wording, for example `listen tcp 127.0.0.1:2380: bind: address already in use`.
  public let description: String
  /// The system's error number; 0 if the host name is unknown.
  public let errno: Int32
}

/// The system's text for an error number in Go's form: glibc's text without the capital.
///
/// libuv's own codes (name resolution, end of file) are accepted as positive numbers too.
func errnoText(_ number: Int32) -> String {
  if number >= 3000 {
    return uv_strerror(-number).map { String(cString: $0) } ?? "error \(number)"
  }
  let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
    guard let base = buffer.baseAddress, strerror_r(number, base, buffer.count) == 0 else {
      return "error \(number)"
    }
    return String(cString: base)
  }
  return text.prefix(1).lowercased() + text.dropFirst()
}
