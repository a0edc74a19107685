import Actors
import Glibc
import Synchronization
import Testing

private actor Counter {
  nonisolated let executor: any ActorExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
  private(set) var values: [Int] = []
  private var awaited: (count: Int, continuation: CheckedContinuation<Void, Never>)?

  init(on executor: any ActorExecutor) { self.executor = executor }

  func receive(_ batch: inout ContiguousArray<Int>) {
    values.append(contentsOf: batch)
    if let awaited, values.count >= awaited.count {
      self.awaited = nil
      awaited.continuation.resume()
    }
  }

  func wait(for count: Int) async {
    if values.count >= count { return }
    await withCheckedContinuation { awaited = (count, $0) }
  }

  func isOnExecutor() -> Bool { executor.isIsolatingCurrentContext() == true }
}

/// An actor whose stream callbacks call it without a hop.
private actor EchoServer {
  nonisolated let loop: EventLoop
  nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }
  private var connections: [StreamConnection] = []
  private var listener: Listener?
  private(set) var received = 0

  init(on loop: EventLoop) { self.loop = loop }

  func start() throws -> UInt16 {
    let listener = try Listener.listen(on: .tcp(host: "127.0.0.1", port: 0), loop: loop) {
      self.accept($0)
    }
    self.listener = listener
    return listener.boundPort
  }

  func stop() { listener?.close() }

  private func accept(_ connection: StreamConnection) {
    connections.append(connection)
    connection.onClose = { [unowned self] in assumeIsolated { $0.connections = [] } }
    connection.startReading(
      onBytes: { bytes in self.echo(bytes, connection) },
      onEnd: { _ in connection.close() })
  }

  private func echo(_ bytes: UnsafeRawBufferPointer, _ connection: StreamConnection) {
    received += bytes.count
    connection.write(bytes)
  }
}

extension ActorsSuite {
  @Suite struct ExecutorTests {
    @Test func inboxEntersActorOnLoop() async throws {
      let loop = try EventLoop()
      try loop.start(name: "loop")
      await check(loop)
      loop.stopAndJoin()
    }

    @Test func inboxEntersActorOnThread() async throws {
      let thread = try ThreadExecutor(name: "thread")
      await check(thread)
      thread.stop()
    }

    private func check(_ executor: any ActorExecutor) async {
      let counter = Counter(on: executor)
      let inbox = Inbox<Int>(name: "test", limit: 10_000)
      inbox.connect(to: executor) { [weak counter] batch in
        counter?.assumeIsolated { $0.receive(&batch) }
      }
      for value in 0..<5000 { #expect(inbox.send(value)) }
      await counter.wait(for: 5000)
      #expect(await counter.values == Array(0..<5000))
      #expect(await counter.isOnExecutor())
      #expect(executor.isIsolatingCurrentContext() == false)
    }

    /// Guests and the thread itself, several at a time: never two in the actor, nothing lost.
    @Test func callersRunBriefWorkInThePlaceOfASleepingThread() async throws {
      let thread = try ThreadExecutor(name: "thread")
      let counter = Counter(on: thread)
      let inbox = Inbox<Int>(name: "test", limit: 100_000)
      let inside = Atomic<Int>(0)
      let onCaller = Atomic<Int>(0)
      let caller = Atomic<UInt>(0)
      inbox.connect(to: thread) { [weak counter] batch in
        #expect(inside.add(1, ordering: .relaxed).newValue == 1)
        if UInt(pthread_self()) == caller.load(ordering: .relaxed) {
          onCaller.add(1, ordering: .relaxed)
        }
        counter?.assumeIsolated { $0.receive(&batch) }
        inside.subtract(1, ordering: .relaxed)
      }
      let others = try (0..<2).map { try ThreadExecutor(name: "sender\($0)") }
      for (number, other) in others.enumerated() {
        other.execute {
          if number == 0 { caller.store(UInt(pthread_self()), ordering: .relaxed) }
          for value in 0..<2000 {
            if value % 3 == 0 { inbox.send(value) } else { inbox.sendRunningHere(value) }
            if value % 50 == 0 { usleep(200) }
          }
        }
      }
      await counter.wait(for: 4000)
      for other in others { other.stop() }
      #expect(await counter.values.count == 4000)
      #expect(onCaller.load(ordering: .relaxed) > 0)
      thread.stop()
      // A thread that has stopped takes no guests.
      inbox.sendRunningHere(1)
      #expect(inside.load(ordering: .relaxed) == 0)
    }

    /// Held messages wait for their delivery, or go with what is sent meanwhile, in order.
    @Test func heldMessagesAreHandledOnceAndInOrder() async throws {
      let thread = try ThreadExecutor(name: "thread")
      let counter = Counter(on: thread)
      let inbox = Inbox<Int>(name: "test", limit: 10)
      inbox.connect(to: thread) { [weak counter] batch in
        counter?.assumeIsolated { $0.receive(&batch) }
      }
      inbox.deliver(here: true)
      inbox.hold(1)
      inbox.hold(2)
      usleep(2_000)
      #expect(inbox.count == 2)
      inbox.deliver(here: false)
      await counter.wait(for: 2)
      inbox.hold(3)
      inbox.send(4)
      await counter.wait(for: 4)
      inbox.deliver(here: true)
      // The thread sleeps after a while: then the caller handles what it has held.
      for value in 5...300 {
        usleep(50)
        inbox.hold(value)
        inbox.deliver(here: true)
      }
      await counter.wait(for: 300)
      #expect(await counter.values == Array(1...300))
      thread.stop()
    }

    @Test func streamCallbacksEnterActorOnLoop() async throws {
      let loop = try EventLoop()
      try loop.start(name: "loop")
      let server = EchoServer(on: loop)
      let port = try await server.start()
      let echoed = await withCheckedContinuation { continuation in
        loop.execute {
          Connector.connect(
            to: .tcp(host: "localhost", port: port), timeoutMilliseconds: 2000, loop: loop
          ) { result in
            guard case .success(let connection) = result else {
              return continuation.resume(returning: "")
            }
            connection.startReading(
              onBytes: { bytes in
                connection.close()
                continuation.resume(returning: String(decoding: bytes, as: UTF8.self))
              }, onEnd: { _ in })
            connection.write(Array("hello".utf8))
          }
        }
      }
      #expect(echoed == "hello")
      #expect(await server.received == 5)
      await server.stop()
      loop.stopAndJoin()
    }

    @Test func threadRunsEverythingInOrderAndFinishesOnStop() throws {
      let thread = try ThreadExecutor(name: "a thread with a long name")
      let order = Mutex<[Int]>([])
      for value in 0..<100 { thread.execute { order.withLock { $0.append(value) } } }
      thread.execute { thread.execute { order.withLock { $0.append(100) } } }
      thread.execute {
        thread.checkIsolated()
        guard let file = fopen("/proc/thread-self/comm", "r") else { return }
        defer { fclose(file) }
        var name = [CChar](repeating: 0, count: 32)
        fgets(&name, 32, file)
        #expect(strcmp(name, "a thread with a\n") == 0)
      }
      thread.stop()
      thread.stop()
      #expect(order.withLock { $0 } == Array(0...100))
      thread.execute { Issue.record("ran after stop") }
    }

    @Test func loopRunsWorkOfAllThreads() throws {
      let loop = try EventLoop()
      let threads = try (0..<2).map { try ThreadExecutor(name: "worker\($0)") }
      let count = Atomic<Int>(0)
      for thread in threads {
        thread.execute {
          for _ in 0..<10_000 {
            loop.execute {
              loop.preconditionOnLoop()
              if count.wrappingAdd(1, ordering: .relaxed).newValue == 20_000 { loop.stop() }
            }
          }
        }
      }
      run(loop)
      #expect(count.load(ordering: .relaxed) == 20_000)
      #expect(!loop.isCurrent)
      for thread in threads { thread.stop() }
    }

    @Test func stopFromAnotherThreadWakesABlockedLoop() throws {
      let loop = try EventLoop()
      let thread = try ThreadExecutor(name: "stopper")
      let timer = LoopTimer(loop: loop) { thread.execute { loop.stop() } }
      timer.schedule(afterMilliseconds: 5)
      let begin = monotonicNanoseconds()
      run(loop)
      #expect(monotonicNanoseconds() - begin < 1_000_000_000)
      thread.stop()
    }

    @Test func hooksRunAfterTheWorkOfTheTurn() throws {
      let loop = try EventLoop()
      let log = Mutex<[String]>([])
      let note: @Sendable (String) -> Void = { text in log.withLock { $0.append(text) } }
      var left = 2
      loop.onTurnEnd {
        note("hook")
        guard left > 0 else { return }
        left -= 1
        // Nothing else happens on this loop: the work must not wait for an event.
        loop.execute { note("from hook") }
        if left == 0 { loop.execute { loop.stop() } }
      }
      loop.execute {
        note("work")
        loop.execute { note("more work") }
      }
      run(loop)
      let expected = ["work", "more work", "hook", "from hook", "hook", "from hook", "hook"]
      #expect(log.withLock { $0 }.prefix(7) == expected[...])
    }

    @Test func hookThatAlwaysLeavesWorkDoesNotStarveTimers() throws {
      let loop = try EventLoop()
      loop.onTurnEnd { loop.execute {} }
      var fired = false
      let timer = LoopTimer(loop: loop) {
        fired = true
        loop.stop()
      }
      timer.schedule(afterMilliseconds: 5)
      run(loop)
      #expect(fired)
    }

    @Test func endlessWorkDoesNotStarveSockets() throws {
      let loop = try EventLoop()
      let chain = Chain(loop: loop)
      chain.next()
      var sawBytes = false
      let path = temporarySocketPath("starve")
      let listener = try Listener.listen(on: .unix(path: path), loop: loop) { connection in
        connection.startReading(
          onBytes: { _ in
            sawBytes = true
            loop.stop()
          }, onEnd: { _ in })
      }
      Connector.connect(to: .unix(path: path), timeoutMilliseconds: 0, loop: loop) {
        if case .success(let connection) = $0 { connection.write([1]) }
      }
      run(loop)
      #expect(sawBytes)
      #expect(listener.localAddress == path)
      #expect(access(path, F_OK) != 0)
    }
  }
}

/// Work that queues itself again for ever.
private final class Chain: Sendable {
  let loop: EventLoop
  init(loop: EventLoop) { self.loop = loop }
  func next() { loop.execute { self.next() } }
}
