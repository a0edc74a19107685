// The Unix socket of a running launcher.

import Actors
import Glibc

/// The socket's address; keeps a folder open where the path is too long for an address.
final class ControlSocket {
  /// What fits into a Unix socket's address.
  private static let pathBytesMax = 107

  let address: StreamAddress
  private let folder: Int32

  /// - Throws: ``ControlError`` if the folder cannot be opened.
  init(path: String) throws(ControlError) {
    guard path.utf8.count > Self.pathBytesMax else {
      address = .unix(path: path)
      folder = -1
      return
    }
    folder = open(Files.folder(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    address = .unix(path: "/proc/self/fd/\(folder)/\(Files.name(of: path))")
    if folder < 0 { throw ControlError("open \(Files.folder(of: path)): \(systemText(errno))") }
  }

  deinit {
    if folder >= 0 { close(folder) }
  }
}
