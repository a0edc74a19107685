import Actors
import Base
import HTTP
import TLS

/// Pages of other members' peer ports, read before this member's own actors run.
enum PeerPages {
  struct Page {
    var url: EtcdURL
    var target: String
    /// Sent along if there is one.
    var body: Bytes = []
  }

  struct Answer {
    var status: Int
    var headers: HTTP1Headers?
    var body: Bytes
  }

  /// - Parameter dialing: certificates for `https` URLs.
  ///
  /// Blocks until all are answered or the time is over.
  ///
  /// - Returns: one answer per page, in the same order; nil if there was none.
  static func get(
    _ pages: [Page], dialing: TLSContextSource, timeoutMilliseconds: Int
  ) throws -> [Answer?] {
    guard !pages.isEmpty else { return [] }
    let loop = try EventLoop()
    let collected = Collected(count: pages.count, loop: loop)
    for (index, page) in pages.enumerated() {
      Connector.connect(
        to: page.url.listenAddress, timeoutMilliseconds: timeoutMilliseconds, loop: loop,
        security: page.url.usesTLS
          ? TLSDialer(source: dialing, serverName: page.url.host) : nil
      ) { result in
        guard case .success(let connection) = result else { return collected.finish(index, nil) }
        ask(page, connection) { collected.finish(index, $0) }
      }
    }
    let timer = LoopTimer(loop: loop) { loop.stop() }
    timer.schedule(afterMilliseconds: timeoutMilliseconds)
    loop.run()
    return collected.answers
  }

  private static func ask(
    _ page: Page, _ connection: StreamConnection, _ finish: @escaping (Answer?) -> Void
  ) {
    let codec = HTTP1ClientCodec()
    var answer = Answer(status: 0, body: [])
    var isOver = false
    func end(_ answer: Answer?) {
      guard !isOver else { return }
      isOver = true
      connection.close()
      finish(answer)
    }
    connection.startReading(
      onBytes: { bytes in
        do throws(HTTP1Error) {
          try codec.receive(bytes) { event in
            switch event {
            case .head(let head):
              answer.status = head.status
              answer.headers = head.headers
            case .body(let part): answer.body.append(contentsOf: part)
            case .end: end(answer)
            }
          }
        } catch {
          end(nil)
        }
      }, onEnd: { _ in end(nil) })
    var request = Bytes()
    HTTP1Encoder.requestHead(
      method: "GET", target: page.target, host: page.url.authority,
      body: page.body.isEmpty ? .none : .length(page.body.count), keepAlive: false, to: &request)
    connection.write(request + page.body)
  }

  /// Answers so far; ends the loop with the last one. Loop thread.
  private final class Collected {
    private(set) var answers: [Answer?]
    private var waiting: Int
    private let loop: EventLoop

    init(count: Int, loop: EventLoop) {
      answers = Array(repeating: nil, count: count)
      waiting = count
      self.loop = loop
    }

    func finish(_ index: Int, _ answer: Answer?) {
      answers[index] = answer
      waiting -= 1
      if waiting == 0 { loop.stop() }
    }
  }
}
