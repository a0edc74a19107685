import Base
import Glibc

/// The service manager that started this process, if there is one to be told about it (sd_notify).
struct ServiceManager: Sendable {
  private let path: String

  /// The one named by `$NOTIFY_SOCKET`.
  static var current: ServiceManager? {
    guard let value = getenv("NOTIFY_SOCKET") else { return nil }
    return ServiceManager(path: String(cString: value))
  }

  /// - Parameter path: of a datagram socket, or `@` and an abstract name. Nil if it is neither.
  init?(path: String) {
    guard path.utf8.count > 1, path.hasPrefix("/") || path.hasPrefix("@"),
      path.utf8.count < MemoryLayout.size(ofValue: sockaddr_un().sun_path)
    else { return nil }
    self.path = path
  }

  /// Sends one datagram. Never waits; a manager that does not listen is not told.
  @discardableResult
  func notify(_ state: String) -> Bool {
    let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Bytes(path.utf8)) }
    // An abstract name begins with a zero byte.
    if path.hasPrefix("@") { address.sun_path.0 = 0 }
    let length = MemoryLayout<sa_family_t>.size + path.utf8.count
    let bytes = Bytes(state.utf8)
    let sent = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        sendto(
          descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT),
          $0, socklen_t(length))
      }
    }
    return sent == bytes.count
  }
}
