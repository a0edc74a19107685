import Actors

/// Handshakes that have work to do, a little of it per turn of the loop: a storm of new connections
/// must not hold up those that are there, nor the heartbeats of the member.
final class HandshakeQueue {
  private static let nanosecondsPerTurnMax: UInt64 = 1_000_000

  private let loop: EventLoop
  private var waiting: [TLSStream] = []
  private var timer: LoopTimer?

  init(loop: EventLoop) { self.loop = loop }

  func add(_ stream: TLSStream) {
    waiting.append(stream)
    schedule()
  }

  func contains(_ stream: TLSStream) -> Bool { waiting.contains { $0 === stream } }

  private func schedule() {
    let timer = timer ?? LoopTimer(loop: loop) { [weak self] in self?.work() }
    self.timer = timer
    // While it fires it counts as armed, and looks for more by itself.
    if !timer.isArmed { timer.schedule(afterMilliseconds: 0) }
  }

  private func work() {
    let end = loop.now + Self.nanosecondsPerTurnMax
    repeat {
      if waiting.isEmpty { return }
      waiting.removeFirst().step()
    } while loop.now < end
    // Half of the time is left to others; armed at once it would fire before sockets are looked at.
    if !waiting.isEmpty { timer?.schedule(afterMilliseconds: 1) }
  }
}
