import Actors
import Base
import Foundation
import HTTP
import RaftActor
import StoreActor

/// Asks the other members of a new cluster whether this one has lived before.
///
/// A member that lost its data and comes back under its old id would vote a second time in elections
/// that it has forgotten. etcd's members tell by their list.
struct BootstrapProbe {
  private static let timeoutMilliseconds = 1000

  let log: EtcdLogger

  /// - Throws: `StorageError` if a running member knows this one's client addresses already.
  func refuseSecondLife(of identities: InitialIdentities) throws {
    let urls = identities.members.filter { $0.id != identities.localID }.flatMap(\.peerURLs)
    guard !urls.isEmpty else { return }
    for body in try answers(of: urls) {
      struct Listed: Decodable {
        var id: UInt64
        var clientURLs: [String]?
      }
      let listed = (try? JSONDecoder().decode([Listed].self, from: Data(body))) ?? []
      if listed.contains(where: { $0.id == identities.localID && $0.clientURLs?.isEmpty == false }) {
        throw StorageError(
          "member \(identities.localID.hex) has already been bootstrapped: the running cluster knows "
            + "it, and its data directory is empty here. Put its data back, or replace it by a new "
            + "member (member remove, member add)")
      }
    }
  }

  private func answers(of urls: [EtcdURL]) throws -> [Bytes] {
    let loop = try EventLoop()
    let collected = Collected(waiting: urls.count, loop: loop)
    for url in urls { ask(url, loop, collected) }
    let timer = LoopTimer(loop: loop) { loop.stop() }
    timer.schedule(afterMilliseconds: Self.timeoutMilliseconds)
    loop.run()
    return collected.bodies
  }

  private func ask(_ url: EtcdURL, _ loop: EventLoop, _ collected: Collected) {
    Connector.connect(
      to: url.listenAddress, timeoutMilliseconds: Self.timeoutMilliseconds, loop: loop
    ) { result in
      guard case .success(let connection) = result else { return collected.finish(nil) }
      let codec = HTTP1ClientCodec()
      var body = Bytes()
      var isOver = false
      func end(_ answer: Bytes?) {
        guard !isOver else { return }
        isOver = true
        connection.close()
        collected.finish(answer)
      }
      connection.startReading(
        onBytes: { bytes in
          do throws(HTTP1Error) {
            try codec.receive(bytes) { event in
              switch event {
              case .head: break
              case .body(let part): body.append(contentsOf: part)
              case .end: end(body)
              }
            }
          } catch {
            end(nil)
          }
        }, onEnd: { _ in end(nil) })
      var request = Bytes()
      HTTP1Encoder.requestHead(
        method: "GET", target: "/members", host: url.authority, keepAlive: false, to: &request)
      connection.write(request)
    }
  }

  /// Answers so far; ends the loop with the last one. Loop thread.
  private final class Collected {
    private(set) var bodies: [Bytes] = []
    private var waiting: Int
    private let loop: EventLoop

    init(waiting: Int, loop: EventLoop) {
      self.waiting = waiting
      self.loop = loop
    }

    func finish(_ body: Bytes?) {
      if let body { bodies.append(body) }
      waiting -= 1
      if waiting == 0 { loop.stop() }
    }
  }
}
