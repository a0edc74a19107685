import Actors
import RaftActor
import Synchronization

/// Takes batches to the log: its thread gets them at once, or the loop writes them itself at the end
/// of its turn, when everything that the turn has for others has been sent.
final class LogDesk: Sendable {
  private let placement = Mutex(LogPlacement())

  /// Once, after everybody else whose hooks run at the end of a turn. Any thread.
  func start(_ inbox: Inbox<LogBatch>, on loop: EventLoop) {
    loop.execute {
      loop.onTurnEnd { inbox.deliver(here: true) }
    }
  }

  /// A sync has taken so long. Any thread.
  func synced(nanoseconds: UInt64) {
    placement.withLock { $0.synced(nanoseconds: nanoseconds, now: monotonicNanoseconds()) }
  }

  /// Loop thread.
  func take(_ batch: LogBatch, to inbox: Inbox<LogBatch>) {
    let isOnLoop = placement.withLock {
      $0.isOnLoop(
        batch, now: monotonicNanoseconds(), processorTime: threadProcessorNanoseconds)
    }
    if isOnLoop { inbox.hold(batch) } else { inbox.send(batch) }
  }
}
