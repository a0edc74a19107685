import Actors
import Glibc
import Testing

extension ActorsSuite {
  @Suite struct StreamTests {
    @Test(arguments: ["tcp", "unix"])
    func echoesLargeDataWithBackPressureBothWays(network: String) throws {
      let loop = try EventLoop()
      let block = (0..<4099).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
      var data: [UInt8] = []
      for _ in 0..<4096 { data.append(contentsOf: block) }
      let total = data.count
      let path = temporarySocketPath("echo")
      let onTCP = network == "tcp"
      let place = onTCP ? ListenAddress.tcp(host: "127.0.0.1", port: 0) : .unix(path: path)
      var serverStalls = 0
      let listener = try Listener.listen(on: place, loop: loop) { server in
        server.startReading(
          onBytes: { bytes in
            server.write(bytes)
            if !server.isWritable {
              serverStalls += 1
              server.pauseReading()
            }
          },
          onEnd: { error in
            #expect(error == nil)
            server.closeWhenFlushed()
          })
        server.onWritable = { server.resumeReading() }
      }
      let target = onTCP ? ConnectAddress.tcp(host: "127.0.0.1", port: listener.boundPort) : place
      var received = 0
      var clientStalls = 0
      Connector.connect(to: target, timeoutMilliseconds: 2000, loop: loop) { result in
        guard case .success(let client) = result else { return loop.stop() }
        var sent = 0
        func fill() {
          while sent < total && client.isWritable {
            let end = min(sent + 100_000, total)
            client.write(Array(data[sent..<end]))
            sent = end
          }
          if sent < total { clientStalls += 1 } else { client.shutdown() }
        }
        client.onWritable = { fill() }
        client.startReading(
          onBytes: { bytes in
            data.withUnsafeBytes { data in
              guard received + bytes.count <= total, let base = bytes.baseAddress else {
                Issue.record("too many bytes")
                return
              }
              let expected = data.baseAddress?.advanced(by: received)
              #expect(expected.map { memcmp($0, base, bytes.count) } == 0)
            }
            received += bytes.count
          },
          onEnd: { error in
            #expect(error == nil)
            client.close()
          })
        client.onClose = { loop.stop() }
        // Nobody reads for a while, until both ends have filled up.
        client.pauseReading()
        LoopTimer(loop: loop) { client.resumeReading() }.schedule(afterMilliseconds: 30)
        fill()
      }
      run(loop)
      #expect(received == total)
      #expect(serverStalls > 0)
      #expect(clientStalls > 0)
    }

    /// A connected socket whose other end nobody reads.
    private func connected(to port: UInt16) -> Int32 {
      let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = port.bigEndian
      address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
      let size = socklen_t(MemoryLayout<sockaddr_in>.size)
      let status = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, size) }
      }
      #expect(status == 0)
      return descriptor
    }

    /// With thousands of sockets ready, what the first have brought does not wait for the last.
    @Test func hooksRunBetweenReads() throws {
      let loop = try EventLoop()
      loop.readsBetweenHooksMax = 3
      var (reads, sinceHooks, most) = (0, 0, 0)
      loop.onTurnEnd { sinceHooks = 0 }
      let listener = try Listener.listen(on: .tcp(host: "127.0.0.1", port: 0), loop: loop) {
        server in
        server.startReading(
          onBytes: { _ in
            reads += 1
            sinceHooks += 1
            most = max(most, sinceHooks)
            if reads == 20 { loop.stop() }
          },
          onEnd: { _ in server.close() })
      }
      let clients = (0..<20).map { _ in connected(to: listener.boundPort) }
      for client in clients { #expect(write(client, "x", 1) == 1) }
      run(loop)
      #expect(reads == 20 && most == 3)
      for client in clients { close(client) }
    }

    @Test func aResetEndsAConnectionThatItsOwnerHasLeft() throws {
      let loop = try EventLoop()
      let listener = try Listener.listen(on: .tcp(host: "127.0.0.1", port: 0), loop: loop) {
        server in
        server.onClose = { loop.stop() }
        server.startReading(onBytes: { _ in }, onEnd: { _ in })
        server.write(Array("the last words".utf8))
        server.closeWhenFlushed()
      }
      let client = connected(to: listener.boundPort)
      var now = linger(l_onoff: 1, l_linger: 0)
      setsockopt(client, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
      close(client)
      run(loop)
    }

    @Test func aPeerThatTakesNothingIsNotWaitedForForEver() throws {
      let loop = try EventLoop()
      let listener = try Listener.listen(on: .tcp(host: "127.0.0.1", port: 0), loop: loop) {
        server in
        server.onClose = { loop.stop() }
        server.lingerMilliseconds = 30
        server.startReading(onBytes: { _ in }, onEnd: { _ in })
        server.write([UInt8](repeating: 1, count: 32 << 20))
        server.closeWhenFlushed()
      }
      let client = connected(to: listener.boundPort)
      defer { close(client) }
      run(loop)
    }

    @Test func reportsRefusedConnections() throws {
      let loop = try EventLoop()
      var errors: [String] = []
      let collect = { (result: Result<StreamConnection, StreamError>) in
        errors.append(result.error?.description ?? "connected")
        if errors.count == 3 { loop.stop() }
      }
      for address in [
        ConnectAddress.tcp(host: "127.0.0.1", port: 1), .tcp(host: "localhost", port: 1),
        .unix(path: "/nonexistent/socket"),
      ] {
        Connector.connect(to: address, timeoutMilliseconds: 1000, loop: loop, completion: collect)
      }
      run(loop)
      #expect(
        errors.sorted() == [
          "dial tcp 127.0.0.1:1: connect: connection refused",
          "dial tcp 127.0.0.1:1: connect: connection refused",
          "dial unix /nonexistent/socket: connect: no such file or directory",
        ])
    }

    /// A full accept queue makes further connects wait without an answer.
    @Test func connectTimesOutAndCanBeCancelled() throws {
      let loop = try EventLoop()
      let full = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      defer { close(full) }
      #expect(listen(full, 0) == 0)
      var bound = sockaddr_in()
      var length = socklen_t(MemoryLayout<sockaddr_in>.size)
      withUnsafeMutablePointer(to: &bound) { pointer in
        _ = getsockname(
          full, UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), &length)
      }
      let port = UInt16(bigEndian: bound.sin_port)
      var pending: [Connector] = []
      var messages: [String] = []
      for index in 0..<6 {
        let connector = Connector.connect(
          to: .tcp(host: "127.0.0.1", port: port), timeoutMilliseconds: 100, loop: loop
        ) { result in
          if index == 5 { messages.append("cancelled one called") }
          if let error = result.error {
            #expect(error.isTimeout)
            messages.append(error.description)
          }
        }
        pending.append(connector)
      }
      pending[5].cancel()
      let end = LoopTimer(loop: loop) { loop.stop() }
      end.schedule(afterMilliseconds: 200)
      run(loop)
      #expect(!messages.isEmpty)
      #expect(messages.allSatisfy { $0 == "dial tcp 127.0.0.1:\(port): i/o timeout" })
    }

    @Test func looksUpNames() throws {
      let loop = try EventLoop()
      var message = ""
      Connector.connect(
        to: .tcp(host: "no such host", port: 1), timeoutMilliseconds: 2000, loop: loop
      ) { result in
        message = result.error?.description ?? "connected"
        loop.stop()
      }
      run(loop)
      #expect(message.hasPrefix("dial tcp: lookup no such host: "))
    }

    @Test func closeInsideCallbacksIsReportedOnce() throws {
      let loop = try EventLoop()
      var closed: [String] = []
      var bytesAfterClose = 0
      let listener = try Listener.listen(on: .tcp(host: "127.0.0.1", port: 0), loop: loop) {
        server in
        server.onClose = { closed.append("server") }
        server.startReading(
          onBytes: { _ in
            if closed.contains("server") { bytesAfterClose += 1 }
            server.write([UInt8](repeating: 1, count: 4 << 20))
            server.close()
            server.close()
            server.write([1])
            server.shutdown()
            server.pauseReading()
            server.resumeReading()
          }, onEnd: { _ in Issue.record("end after close") })
      }
      Connector.connect(
        to: .tcp(host: "127.0.0.1", port: listener.boundPort), timeoutMilliseconds: 1000, loop: loop
      ) { result in
        guard case .success(let client) = result else { return loop.stop() }
        #expect(client.peerAddress == listener.localAddress)
        client.onClose = {
          closed.append("client")
          listener.close()
          listener.close()
          loop.stop()
        }
        client.startReading(onBytes: { _ in }, onEnd: { _ in client.close() })
        client.write([1, 2, 3])
      }
      run(loop)
      #expect(closed == ["server", "client"])
      #expect(bytesAfterClose == 0)
    }

    @Test func peerResetEndsReadingWithError() throws {
      let loop = try EventLoop()
      var message: String?
      let listener = try Listener.listen(on: .tcp(host: "127.0.0.1", port: 0), loop: loop) {
        server in
        // Closing with unread bytes makes the kernel send a reset.
        let timer = LoopTimer(loop: loop) { server.close() }
        timer.schedule(afterMilliseconds: 20)
      }
      Connector.connect(
        to: .tcp(host: "127.0.0.1", port: listener.boundPort), timeoutMilliseconds: 1000, loop: loop
      ) { result in
        guard case .success(let client) = result else { return loop.stop() }
        client.write([1])
        client.startReading(
          onBytes: { _ in },
          onEnd: { error in
            message = error?.description
            loop.stop()
          })
      }
      run(loop)
      #expect(message?.hasPrefix("read tcp 127.0.0.1:") == true)
      #expect(message?.hasSuffix(": read: connection reset by peer") == true)
    }

    @Test func failedWriteClosesAConnectionThatNobodyReads() throws {
      let loop = try EventLoop()
      var closed = 0
      let listener = try Listener.listen(on: .tcp(host: "127.0.0.1", port: 0), loop: loop) {
        $0.close()
      }
      Connector.connect(
        to: .tcp(host: "127.0.0.1", port: listener.boundPort), timeoutMilliseconds: 1000, loop: loop
      ) { result in
        guard case .success(let client) = result else { return loop.stop() }
        let writer = LoopTimer(loop: loop) { client.write([1]) }
        writer.schedule(afterMilliseconds: 1, everyMilliseconds: 1)
        client.onClose = {
          closed += 1
          writer.cancel()
          loop.stop()
        }
      }
      run(loop)
      #expect(closed == 1)
    }

    @Test func stoppingTheLoopClosesConnections() throws {
      let loop = try EventLoop()
      var closed = 0
      let listener = try Listener.listen(on: .tcp(host: "127.0.0.1", port: 0), loop: loop) {
        server in
        server.onClose = { closed += 1 }
        loop.stop()
      }
      Connector.connect(
        to: .tcp(host: "127.0.0.1", port: listener.boundPort), timeoutMilliseconds: 1000, loop: loop
      ) {
        if case .success(let client) = $0 { client.onClose = { closed += 1 } }
      }
      run(loop)
      #expect(closed >= 1)
    }
  }
}
