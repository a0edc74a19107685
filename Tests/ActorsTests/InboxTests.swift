import Actors
import Synchronization
import Testing

extension ActorsSuite {
  @Suite struct InboxTests {
    @Test func keepsOrderPerSenderAcrossThreads() throws {
      let receiver = try ThreadExecutor(name: "receiver")
      let senders = try (0..<2).map { try ThreadExecutor(name: "sender\($0)") }
      let inbox = Inbox<(Int, Int)>(name: "test", limit: 1_000_000)
      let next = Mutex([0, 0])
      let batches = Atomic<Int>(0)
      inbox.connect(to: receiver) { batch in
        batches.wrappingAdd(1, ordering: .relaxed)
        next.withLock { next in
          for (sender, number) in batch {
            #expect(next[sender] == number)
            next[sender] += 1
          }
        }
      }
      for (index, sender) in senders.enumerated() {
        sender.execute {
          for number in 0..<20_000 { #expect(inbox.send((index, number))) }
        }
      }
      for sender in senders { sender.stop() }
      receiver.stop()
      #expect(next.withLock { $0 } == [20_000, 20_000])
      #expect(inbox.count == 0)
      #expect(batches.load(ordering: .relaxed) < 40_000)
    }

    @Test func refusesWhatDoesNotFit() {
      let inbox = Inbox<Int>(name: "test", limit: 3)
      #expect(inbox.send(1))
      #expect(!inbox.send(contentsOf: [2, 3, 4]))
      #expect(inbox.send(contentsOf: [2, 3]))
      #expect(!inbox.send(4))
      #expect(inbox.send(contentsOf: []))
      #expect(inbox.count == 3)
    }

    @Test func deliversEarlyMessagesOnConnectInOneBatch() throws {
      let loop = try EventLoop()
      let inbox = Inbox<Int>(name: "test", limit: 10)
      inbox.send(contentsOf: [1, 2])
      inbox.send(3)
      let batches = Mutex<[[Int]]>([])
      inbox.connect(to: loop) { [unowned inbox] batch in
        batches.withLock { $0.append(Array(batch)) }
        if batch.contains(3) {
          // Sent from the handler: the next batch, not this one.
          inbox.send(4)
          inbox.send(5)
        } else {
          loop.stop()
        }
      }
      run(loop)
      #expect(batches.withLock { $0 } == [[1, 2, 3], [4, 5]])
    }

    @Test func reusesBuffers() throws {
      let loop = try EventLoop()
      let inbox = Inbox<Int>(name: "test", limit: 100)
      let capacities = Mutex<[Int]>([])
      inbox.connect(to: loop) { [unowned inbox] batch in
        let count = capacities.withLock {
          $0.append(batch.capacity)
          return $0.count
        }
        if count == 6 { loop.stop() } else { inbox.send(contentsOf: 0..<(count < 3 ? 50 : 1)) }
      }
      inbox.send(contentsOf: 0..<50)
      run(loop)
      #expect(capacities.withLock { $0.allSatisfy { $0 >= 50 } })
    }
  }
}
