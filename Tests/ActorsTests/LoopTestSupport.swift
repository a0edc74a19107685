import Actors
import Testing

/// Runs `loop` on the calling thread until it is stopped, for at most ten seconds.
func run(_ loop: EventLoop, sourceLocation: SourceLocation = #_sourceLocation) {
  let watchdog = LoopTimer(loop: loop) {
    Issue.record("the loop was not stopped in time", sourceLocation: sourceLocation)
    loop.stop()
  }
  watchdog.schedule(afterMilliseconds: 10_000)
  loop.run()
}

/// A path in `/tmp` that fits into a socket address.
func temporarySocketPath(_ name: String) -> String {
  "/tmp/apus-\(name)-\(UInt32.random(in: 0 ... .max)).sock"
}

extension Result {
  var error: Failure? {
    if case .failure(let error) = self { error } else { nil }
  }
}

/// One test at a time: one of them takes all file descriptors of the process.
@Suite(.serialized) enum ActorsSuite {}
