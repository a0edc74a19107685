import Actors
import Glibc
import Testing

@testable import TLS

@Suite struct StreamTests {
  private let files: Certificates

  init() throws { files = try Certificates.shared.get() }

  /// Runs the loop until it is stopped, for at most five seconds.
  private func run(_ loop: EventLoop) {
    let watchdog = LoopTimer(loop: loop) {
      Issue.record("the loop was not stopped in time")
      loop.stop()
    }
    watchdog.schedule(afterMilliseconds: 5000)
    loop.run()
  }

  private func dialer(_ settings: TLSSettings? = nil) -> TLSDialer {
    TLSDialer(
      source: TLSContextSource(.client, settings ?? files.client()), serverName: "127.0.0.1")
  }

  private func acceptor(
    _ loop: EventLoop, _ limits: TLSAcceptor.Limits = .init(), _ settings: TLSSettings? = nil,
    checksAddress: Bool = false, onRejected: @escaping (TLSRejection) -> Void = { _ in }
  ) -> TLSAcceptor {
    TLSAcceptor(
      source: TLSContextSource(.server, settings ?? files.server()), loop: loop, limits: limits,
      checksAddress: checksAddress, onRejected: onRejected)
  }

  private let here = ListenAddress.tcp(host: "127.0.0.1", port: 0)

  @Test func echoWithBackPressure() throws {
    let part = (0..<1_000_003).map { UInt8(truncatingIfNeeded: $0 &* 7 >> 5) }
    let data = Array(repeatElement(part, count: 16).joined())
    let total = data.count
    let loop = try EventLoop()
    var stalls = 0
    let listener = try Listener.listen(on: here, loop: loop, security: acceptor(loop)) { server in
      server.onWritable = { server.resumeReading() }
      server.startReading(
        onBytes: { bytes in
          server.write(bytes)
          if !server.isWritable {
            stalls += 1
            server.pauseReading()
          }
        },
        onEnd: { error in
          #expect(error == nil)
          server.closeWhenFlushed()
        })
    }
    var received: [UInt8] = []
    var pauses = 0
    Connector.connect(
      to: .tcp(host: "127.0.0.1", port: listener.boundPort), timeoutMilliseconds: 2000, loop: loop,
      security: dialer()
    ) { result in
      guard case .success(let client) = result else {
        Issue.record("\(result)")
        return loop.stop()
      }
      var sent = 0
      func fill() {
        while sent < total && client.isWritable {
          let end = min(sent + 100_000, total)
          client.write(Array(data[sent..<end]))
          sent = end
        }
        if sent == total { client.shutdown() }
      }
      client.onWritable = { fill() }
      client.startReading(
        onBytes: { bytes in
          received.append(contentsOf: bytes)
          // Now and then the owner needs a rest in the middle of what has come.
          pauses += 1
          guard pauses % 16 == 0 else { return }
          client.pauseReading()
          LoopTimer(loop: loop) { client.resumeReading() }.schedule(afterMilliseconds: 1)
        },
        onEnd: { error in
          #expect(error == nil)
          client.close()
        })
      client.onClose = { loop.stop() }
      client.pauseReading()
      LoopTimer(loop: loop) { client.resumeReading() }.schedule(afterMilliseconds: 30)
      fill()
    }
    run(loop)
    #expect(received == data)
    #expect(stalls > 0)
  }

  @Test func anEndWithoutGoodbyeIsAnError() throws {
    let loop = try EventLoop()
    let listener = try Listener.listen(on: here, loop: loop, security: acceptor(loop)) { server in
      server.startReading(
        onBytes: { _ in },
        onEnd: { error in
          #expect(error?.description.hasSuffix(": unexpected EOF") == true)
          server.close()
          loop.stop()
        })
    }
    Connector.connect(
      to: .tcp(host: "127.0.0.1", port: listener.boundPort), timeoutMilliseconds: 2000, loop: loop,
      security: dialer()
    ) { result in
      guard case .success(let client) = result, let filter = client.filter as? TLSStream else {
        return loop.stop()
      }
      filter.engine.close()
      client.close()
    }
    run(loop)
  }

  /// Clients that connect and say nothing neither keep others out nor stay for ever.
  @Test func silentClients() throws {
    let loop = try EventLoop()
    var limits = TLSAcceptor.Limits()
    limits.handshakesMax = 4
    limits.milliseconds = 300
    var reasons: [String] = []
    let security = acceptor(loop, limits) { reasons.append($0.error.description) }
    let listener = try Listener.listen(on: here, loop: loop, security: security) { server in
      server.write(Array("hello".utf8))
      server.closeWhenFlushed()
    }
    let target = ConnectAddress.tcp(host: "127.0.0.1", port: listener.boundPort)
    var open = 0
    var served = 0
    for _ in 0..<10 {
      Connector.connect(to: target, timeoutMilliseconds: 2000, loop: loop) { result in
        guard case .success(let silent) = result else { return }
        open += 1
        silent.startReading(onBytes: { _ in }, onEnd: { _ in silent.close() })
        silent.onClose = {
          open -= 1
          if open == 0 { loop.stop() }
        }
        guard open == 10 else { return }
        Connector.connect(to: target, timeoutMilliseconds: 200, loop: loop, security: dialer()) {
          guard case .success(let client) = $0 else { return }
          client.startReading(
            onBytes: { served += $0.count }, onEnd: { _ in client.close() })
        }
      }
    }
    run(loop)
    #expect(served == 5)
    #expect(reasons.count(where: { $0 == "tls: too many handshakes" }) == 7)
    #expect(reasons.count(where: { $0 == "tls: handshake: i/o timeout" }) == 3)
  }

  @Test func refusalsReachBothEnds() throws {
    let loop = try EventLoop()
    var settings = files.client()
    settings.trustedCAFile = files.path("other-ca.pem")
    var rejected: TLSRejection?
    let security = acceptor(loop) {
      rejected = $0
      loop.stop()
    }
    let listener = try Listener.listen(on: here, loop: loop, security: security) { _ in
      Issue.record("there is no connection")
    }
    var failure: StreamError?
    Connector.connect(
      to: .tcp(host: "127.0.0.1", port: listener.boundPort), timeoutMilliseconds: 2000, loop: loop,
      security: dialer(settings)
    ) { result in
      if case .failure(let error) = result { failure = error }
    }
    run(loop)
    #expect(failure?.description.hasSuffix("certificate signed by unknown authority") == true)
    #expect(rejected?.error.description == "remote error: tls: unknown certificate authority")
    #expect(rejected?.remoteAddress.hasPrefix("127.0.0.1:") == true)
  }

  @Test func aServerThatDoesNotAnswer() throws {
    let loop = try EventLoop()
    let listener = try Listener.listen(on: here, loop: loop) { server in
      server.startReading(onBytes: { _ in }, onEnd: { _ in server.close() })
    }
    var failure: StreamError?
    Connector.connect(
      to: .tcp(host: "127.0.0.1", port: listener.boundPort), timeoutMilliseconds: 100, loop: loop,
      security: dialer()
    ) { result in
      if case .failure(let error) = result { failure = error }
      loop.stop()
    }
    run(loop)
    #expect(failure?.description == "net/http: TLS handshake timeout")
    #expect(failure?.isTimeout == true)
  }

  /// Peers have to come from where their certificates say.
  @Test(arguments: [("server", true), ("alice", false)])
  func theAddressOfAClient(_ name: String, _ isAccepted: Bool) throws {
    let loop = try EventLoop()
    var reason: String?
    var accepted = false
    let security = acceptor(loop, .init(), files.strictServer(), checksAddress: true) {
      reason = $0.error.description
      loop.stop()
    }
    let listener = try Listener.listen(on: here, loop: loop, security: security) { server in
      accepted = true
      server.close()
      loop.stop()
    }
    Connector.connect(
      to: .tcp(host: "127.0.0.1", port: listener.boundPort), timeoutMilliseconds: 2000, loop: loop,
      security: dialer(files.client(name))
    ) { _ in }
    run(loop)
    #expect(accepted == isAccepted)
    #expect(
      reason
        == (isAccepted ? nil : #"tls: "127.0.0.1" does not match any of DNSNames ["alice"]"#))
  }
}
