import Actors
import Glibc
import Testing

extension ActorsSuite {
  @Suite struct TimerTests {
    @Test func firesOnceRepeatsAndStops() throws {
      let loop = try EventLoop()
      var order: [String] = []
      let begin = loop.now
      let once = LoopTimer(loop: loop) { order.append("once") }
      once.schedule(afterMilliseconds: 10)
      let never = LoopTimer(loop: loop) { order.append("never") }
      never.schedule(afterMilliseconds: 5)
      never.cancel()
      #expect(!never.isArmed)
      var again: LoopTimer?
      var rounds = 0
      again = LoopTimer(loop: loop) {
        rounds += 1
        if rounds < 3 { again?.schedule(afterMilliseconds: 1) }
      }
      again?.schedule(afterMilliseconds: 1)
      var ticks = 0
      var ticker: LoopTimer?
      ticker = LoopTimer(loop: loop) {
        ticks += 1
        if ticks < 4 { return }
        ticker?.cancel()
        #expect(!once.isArmed)
        loop.stop()
      }
      ticker?.schedule(afterMilliseconds: 15, everyMilliseconds: 5)
      run(loop)
      again = nil
      ticker = nil
      #expect(order == ["once"])
      #expect(ticks == 4)
      #expect(rounds == 3)
      #expect(loop.now - begin >= 28_000_000)
    }

    @Test func armedTimerKeepsItselfAlive() throws {
      let loop = try EventLoop()
      LoopTimer(loop: loop) { loop.stop() }.schedule(afterMilliseconds: 1)
      run(loop)
    }
  }
}

extension ActorsSuite {
  @Suite struct QuietTimerTests {
    @Test func firesOnceWhenNobodyHasAskedForAWhile() throws {
      let loop = try EventLoop()
      var asked: UInt64 = 0
      var calls: [UInt64] = []
      let timer = try QuietTimer(loop: loop, milliseconds: 20) { calls.append(loop.now) }
      var rounds = 0
      var ticker: LoopTimer?
      // Asked for all the time for several delays, then left alone.
      ticker = LoopTimer(loop: loop) {
        rounds += 1
        if rounds <= 50 {
          asked = loop.now
          timer.restart()
        }
        if rounds == 120 { loop.stop() }
      }
      ticker?.schedule(afterMilliseconds: 1, everyMilliseconds: 1)
      run(loop)
      ticker = nil
      // A machine that stalls may see a pause in between.
      let last = try #require(calls.last)
      #expect(last >= asked + 20_000_000)
      #expect(calls.count { $0 > asked } == 1)
    }

    @Test func firesAgainWhenAskedByItsOwnCall() throws {
      let loop = try EventLoop()
      var calls = 0
      var again: (() -> Void)?
      let timer = try QuietTimer(loop: loop, milliseconds: 1) {
        calls += 1
        if calls == 3 { loop.stop() } else { again?() }
      }
      again = { timer.restart() }
      timer.restart()
      run(loop)
      again = nil
      #expect(calls == 3)
    }

    @Test func closedItStaysSilent() throws {
      let loop = try EventLoop()
      var calls = 0
      let timer = try QuietTimer(loop: loop, milliseconds: 1) { calls += 1 }
      timer.restart()
      timer.close()
      timer.close()
      timer.restart()
      LoopTimer(loop: loop) { loop.stop() }.schedule(afterMilliseconds: 20)
      run(loop)
      #expect(calls == 0)
    }

    @Test func aLoopStopsWithATimerThatIsAskedFor() throws {
      let loop = try EventLoop()
      var calls = 0
      try QuietTimer(loop: loop, milliseconds: 10_000) { calls += 1 }.restart()
      LoopTimer(loop: loop) { loop.stop() }.schedule(afterMilliseconds: 1)
      run(loop)
      #expect(calls == 0)
    }
  }
}

extension ActorsSuite {
  @Suite struct SignalTests {
    @Test func deliversSignalsOnTheLoop() throws {
      let loop = try EventLoop()
      var seen = 0
      let source = try SignalSource(SIGUSR1, loop: loop) {
        seen += 1
        if seen == 1 { kill(getpid(), SIGUSR1) } else { loop.stop() }
      }
      kill(getpid(), SIGUSR1)
      run(loop)
      #expect(seen == 2)
      #expect(source.signal == SIGUSR1)
    }
  }
}

extension ActorsSuite {
  @Suite struct ChildProcessTests {
    private struct Outcome: Equatable {
      var output = ""
      var errors = ""
      var exits: [ChildProcess.Exit] = []
    }

    private func shell(
      _ script: String, environment: [String]? = nil, workingDirectory: String? = nil,
      onStart: ((ChildProcess) -> Void)? = nil
    ) throws -> Outcome {
      let loop = try EventLoop()
      var outcome = Outcome()
      let child = try ChildProcess.spawn(
        path: "/bin/sh", arguments: ["-c", script], environment: environment,
        workingDirectory: workingDirectory, loop: loop,
        onOutput: { kind, bytes in
          let text = String(decoding: bytes, as: UTF8.self)
          if kind == .standardOutput { outcome.output += text } else { outcome.errors += text }
        },
        onExit: {
          outcome.exits.append($0)
          loop.stop()
        })
      #expect(child.pid > 0)
      onStart?(child)
      run(loop)
      return outcome
    }

    @Test func reportsOutputAndStatus() throws {
      let outcome = try shell(
        "echo $X; pwd; echo bad >&2; exit 7", environment: ["X=value"], workingDirectory: "/usr")
      #expect(outcome == Outcome(output: "value\n/usr\n", errors: "bad\n", exits: [.status(7)]))
    }

    @Test func deliversAllOutputBeforeTheExit() throws {
      let outcome = try shell("head -c 1000000 /dev/zero")
      #expect(outcome.output.utf8.count == 1_000_000)
      #expect(outcome.exits == [.status(0)])
    }

    @Test func reportsSignals() throws {
      let outcome = try shell("read x < /dev/zero; sleep 10 & wait") { child in
        #expect(getsid(child.pid) == child.pid)
        #expect(child.signal(SIGKILL, wholeGroup: true))
      }
      #expect(outcome.exits == [.signal(SIGKILL)])
    }

    @Test func doesNotWaitForEverForAGrandchildThatHoldsThePipes() throws {
      let begin = monotonicNanoseconds()
      let outcome = try shell("sleep 2 & echo started")
      #expect(outcome == Outcome(output: "started\n", exits: [.status(0)]))
      #expect(monotonicNanoseconds() - begin < 1_800_000_000)
    }

    @Test func throwsIfTheProgramIsMissing() throws {
      let loop = try EventLoop()
      let error = #expect(throws: SpawnError.self) {
        try ChildProcess.spawn(
          path: "/nonexistent/program", arguments: [], loop: loop, onOutput: { _, _ in },
          onExit: { _ in Issue.record("exit of a child that never was") })
      }
      #expect(error?.description == "fork/exec /nonexistent/program: no such file or directory")
      loop.stop()
      run(loop)
    }
  }
}
