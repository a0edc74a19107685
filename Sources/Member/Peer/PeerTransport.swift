public import Actors
public import Base
public import HTTP

/// The actor that talks to the other members: etcd's peer protocol over HTTP/1.1.
///
/// Listens on the peer port, keeps two streams to and from each member, and falls back to POSTs.
/// It lives on the loop of its sockets. What is encoded in one turn of the loop leaves at the end
/// of that turn; nothing on that path waits for a timer.
public actor PeerTransport {
  /// Commands that may wait; beyond that messages are dropped as a network would drop them.
  public static let inboxLimit = 1 << 16

  private nonisolated let executor: EventLoop
  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  private nonisolated let inbox: Inbox<PeerInput>
  private let hub: PeerHub

  public init(configuration: PeerConfiguration, outlets: PeerOutlets, loop: EventLoop) {
    let inbox = Inbox<PeerInput>(name: "peers", limit: Self.inboxLimit)
    self.inbox = inbox
    executor = loop
    hub = PeerHub(configuration: configuration, outlets: outlets, loop: loop) { inbox.send($0) }
  }

  /// Opens the listeners and begins to act on commands. Loop thread only; call once.
  ///
  /// - Returns: the ports in use, in the order of the listen addresses.
  /// - Throws: ``ListenError``; then nothing is open.
  @discardableResult
  public nonisolated func start() throws(ListenError) -> [UInt16] {
    let result = assumeIsolated { transport -> Result<[UInt16], ListenError> in
      do throws(ListenError) { return .success(try transport.hub.open()) } catch {
        return .failure(error)
      }
    }
    let ports = try result.get()
    inbox.connect(to: executor) { [weak self] batch in
      self?.assumeIsolated { $0.receive(&batch) }
    }
    return ports
  }

  /// Asks for something. Any thread; from the loop thread it is done before the turn ends.
  ///
  /// - Returns: false if too much waits already; then the command is lost.
  @discardableResult
  public nonisolated func submit(_ command: PeerCommand) -> Bool {
    inbox.send(.command(command))
  }

  /// Answers a ``PeerRequest``, once. Any thread. Answers to vanished clients are dropped.
  ///
  /// - Parameter headers: without framing fields; `Content-Length` is added.
  @discardableResult
  public nonisolated func respond(
    id: UInt64, status: Int, headers: [HTTPField], body: Bytes
  ) -> Bool {
    inbox.send(.respond(id: id, status: status, headers: headers, body: body))
  }

  private func receive(_ batch: inout ContiguousArray<PeerInput>) {
    for input in batch { hub.handle(input) }
  }
}
