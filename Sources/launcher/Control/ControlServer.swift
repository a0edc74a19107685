// The launcher's side of the control socket.

import Actors
import Glibc

/// One client and its one request. Loop thread only, as its connection checks.
final class ControlSession: Sendable {
  private let connection: StreamConnection

  init(_ connection: StreamConnection) { self.connection = connection }

  /// Sends one answer; after a final one the connection closes by itself.
  func send(_ reply: ControlReply) {
    connection.write(Array(reply.line.utf8))
    if reply.isFinal { connection.closeWhenFlushed() }
  }

  /// Reads the request.
  func start(onRequest: @escaping (ControlRequest, ControlSession) -> Void) {
    var splitter = LineSplitter(lineBytesMax: ControlRequest.bytesMax)
    var isAnswered = false
    connection.startReading(
      onBytes: { bytes in
        guard !isAnswered, let line = splitter.split(bytes).first else { return }
        isAnswered = true
        do throws(ControlError) {
          onRequest(try ControlRequest(parsing: line), self)
        } catch {
          self.send(.failed(error.description))
        }
      },
      onEnd: { [connection] _ in connection.close() })
  }
}

enum ControlServer {
  /// Listens on the socket, for this user only.
  ///
  /// - Throws: ``ControlError`` in words for the user.
  static func listen(
    on socket: ControlSocket, loop: EventLoop,
    onRequest: @escaping (ControlRequest, ControlSession) -> Void
  ) throws(ControlError) -> Listener {
    // The mode must be right from the first moment, so it cannot be set afterwards.
    let before = umask(0o177)
    defer { umask(before) }
    do {
      return try Listener.listen(on: socket.address, loop: loop) { connection in
        ControlSession(connection).start(onRequest: onRequest)
      }
    } catch {
      throw ControlError("the control socket cannot be opened: \(error)")
    }
  }
}
