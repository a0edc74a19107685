// The other shell's side of the control socket.

import Actors
import Glibc

/// Sends one request and waits for its answer.
enum ControlClient {
  /// Blocks the calling thread, which must have no event loop of its own.
  ///
  /// - Parameter onNote: called with each note as it comes.
  /// - Returns: the final answer, never a note.
  /// - Throws: ``ControlError`` in words for the user, also if the launcher refuses.
  static func perform(
    _ request: ControlRequest, cluster: ClusterFile, onNote: @escaping (String) -> Void
  ) throws(ControlError) -> ControlReply {
    let socket = try openSocket(cluster)
    let loop: EventLoop
    do { loop = try EventLoop() } catch { throw ControlError("\(error)") }
    let exchange = Exchange(loop, onNote)
    Connector.connect(to: socket.address, timeoutMilliseconds: 5000, loop: loop) { result in
      exchange.didConnect(result, request)
    }
    loop.run()
    switch exchange.outcome {
    case .reply(.failed(let text)): throw ControlError(text)
    case .reply(let reply): return reply
    case .refused: throw noLauncher(cluster)
    case nil: throw ControlError("the launcher ended before it had answered")
    }
  }

  private static func openSocket(_ cluster: ClusterFile) throws(ControlError) -> ControlSocket {
    guard Files.exists(cluster.socketPath) else { throw noLauncher(cluster) }
    return try ControlSocket(path: cluster.socketPath)
  }

  private static func noLauncher(_ cluster: ClusterFile) -> ControlError {
    if let advice = ProcessRecord.advice(ProcessRecord.survivors(cluster)) {
      return ControlError("no launcher runs the cluster in \(cluster.dataDirectory), but \(advice)")
    }
    return ControlError(
      "no launcher runs the cluster in \(cluster.dataDirectory); "
        + "start one with: launcher start \(cluster.path)")
  }

  private final class Exchange {
    enum Outcome {
      case reply(ControlReply)
      case refused
    }

    private let loop: EventLoop
    private let onNote: (String) -> Void
    private var splitter = LineSplitter(lineBytesMax: 4 << 20)
    private(set) var outcome: Outcome?

    init(_ loop: EventLoop, _ onNote: @escaping (String) -> Void) {
      self.loop = loop
      self.onNote = onNote
    }

    func didConnect(
      _ result: Result<StreamConnection, StreamError>, _ request: ControlRequest
    ) {
      guard case .success(let connection) = result else {
        outcome = .refused
        return loop.stop()
      }
      connection.startReading(
        onBytes: { bytes in
          for line in self.splitter.split(bytes) { self.receive(line) }
        },
        // The launcher hangs up when it has said everything; after `stop` that is its own end.
        onEnd: { _ in self.loop.stop() })
      connection.write(Array(request.line.utf8))
    }

    private func receive(_ line: String) {
      guard let reply = ControlReply(parsing: line) else { return }
      if case .note(let text) = reply { return onNote(text) }
      outcome = .reply(reply)
    }
  }
}
