import Actors
import Glibc
import Testing

extension ActorsSuite {
  @Suite struct ListenerTests {
    private func failure(
      _ address: ListenAddress, _ loop: EventLoop, reusePort: Bool = false
    ) -> String? {
      do {
        _ = try Listener.listen(on: address, loop: loop, options: .init(reusePort: reusePort)) {
          _ in
        }
        return nil
      } catch {
        return error.description
      }
    }

    @Test func namesTheReasonAsGoDoes() throws {
      let loop = try EventLoop()
      let first = try Listener.listen(on: .tcp(host: "127.0.0.1", port: 0), loop: loop) { _ in }
      let port = first.boundPort
      #expect(first.localAddress == "127.0.0.1:\(port)")
      #expect(
        failure(.tcp(host: "localhost", port: port), loop)
          == "listen tcp 127.0.0.1:\(port): bind: address already in use")
      #expect(
        failure(.tcp(host: "192.0.2.1", port: port), loop)
          == "listen tcp 192.0.2.1:\(port): bind: cannot assign requested address")
      #expect(
        failure(.tcp(host: "no.such.host", port: 1), loop)
          == "listen tcp: lookup no.such.host: no such host")
      #expect(
        failure(.unix(path: "/nonexistent/s"), loop)
          == "listen unix /nonexistent/s: bind: no such file or directory")
      loop.stop()
      run(loop)
    }

    @Test func bindsAllAddresses() throws {
      let loop = try EventLoop()
      for host in ["", "*", "0.0.0.0"] {
        let listener = try Listener.listen(on: .tcp(host: host, port: 0), loop: loop) { _ in }
        #expect(listener.boundPort > 0)
        #expect(
          failure(.tcp(host: "*", port: listener.boundPort), loop)
            == "listen tcp :\(listener.boundPort): bind: address already in use")
      }
      loop.stop()
      run(loop)
    }

    @Test func sharesPortsOnRequest() throws {
      let loop = try EventLoop()
      let first = try Listener.listen(
        on: .tcp(host: "127.0.0.1", port: 0), loop: loop, options: .init(reusePort: true)
      ) { _ in }
      #expect(failure(.tcp(host: "127.0.0.1", port: first.boundPort), loop, reusePort: true) == nil)
      loop.stop()
      run(loop)
    }

    @Test func replacesOnlyStaleSocketFiles() throws {
      let loop = try EventLoop()
      let path = temporarySocketPath("stale")
      // A socket that was bound and closed leaves its file behind.
      let dead = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
      withUnsafePointer(to: address) { pointer in
        let system = UnsafeRawPointer(pointer).assumingMemoryBound(to: sockaddr.self)
        #expect(bind(dead, system, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0)
      }
      close(dead)
      #expect(access(path, F_OK) == 0)
      let listener = try Listener.listen(on: .unix(path: path), loop: loop) { _ in }
      #expect(
        failure(.unix(path: path), loop) == "listen unix \(path): bind: address already in use")
      listener.close()
      #expect(access(path, F_OK) != 0)
      loop.stop()
      run(loop)
    }

    /// In a process of its own: other tests need descriptors meanwhile.
    @Test func survivesRunningOutOfDescriptors() async {
      await #expect(processExitsWith: .success) {
        try ActorsSuite.ListenerTests.acceptWithoutDescriptors()
      }
    }

    private static func acceptWithoutDescriptors() throws {
      let loop = try EventLoop()
      var accepted = 0
      var turns = 0
      let listener = try Listener.listen(on: .tcp(host: "127.0.0.1", port: 0), loop: loop) {
        server in
        accepted += 1
        server.close()
        loop.stop()
      }
      var old = rlimit()
      getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &old)
      let release = LoopTimer(loop: loop) {
        #expect(accepted == 0)
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &old)
      }
      Connector.connect(
        to: .tcp(host: "127.0.0.1", port: listener.boundPort), timeoutMilliseconds: 1000, loop: loop
      ) { _ in }
      loop.onTurnEnd {
        turns += 1
        guard turns == 1 else { return }
        // The client's socket exists by now; no descriptor is left for the server's.
        var low = old
        low.rlim_cur = 3
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &low)
        release.schedule(afterMilliseconds: 50)
      }
      run(loop)
      #expect(accepted == 1)
      #expect(turns < 30)
    }
  }
}
