/// How often a peer may ping: the server's side of gRPC keepalive. Times are nanoseconds.
struct PingPolicy {
  /// Pings closer together than this are strikes while calls are open.
  let intervalMin: UInt64
  /// Without open calls the peer has no reason to ping more often than this.
  static let idleIntervalMin: UInt64 = 2 * 3600 * 1_000_000_000
  /// Strikes forgiven; the next one ends the connection.
  static let strikesMax = 2

  private var strikes = 0
  private var lastPing: UInt64?
  private var wroteSincePing = false

  init(intervalMin: UInt64) {
    self.intervalMin = intervalMin
  }

  /// The server sent headers or data: a client may ping after that again.
  mutating func onWrite() {
    wroteSincePing = true
  }

  /// Returns false if this ping is one too many.
  mutating func onPing(now: UInt64, hasOpenCalls: Bool) -> Bool {
    defer { lastPing = now }
    if wroteSincePing {
      wroteSincePing = false
      strikes = 0
      return true
    }
    let required = hasOpenCalls ? intervalMin : Self.idleIntervalMin
    if let lastPing, now < lastPing &+ required { strikes += 1 }
    return strikes <= Self.strikesMax
  }
}

/// Our own pings on a quiet connection. Times are nanoseconds.
struct Keepalive {
  enum OnTick: Equatable { case nothing, sendPing, dead }

  let interval: UInt64
  let timeout: UInt64
  private var lastRead: UInt64
  private var pingSent: UInt64?

  init(interval: UInt64, timeout: UInt64, now: UInt64) {
    self.interval = interval
    self.timeout = timeout
    lastRead = now
  }

  /// Anything received proves the peer alive.
  mutating func onRead(now: UInt64) {
    lastRead = now
    pingSent = nil
  }

  mutating func tick(now: UInt64) -> OnTick {
    if let pingSent {
      return now >= pingSent &+ timeout ? .dead : .nothing
    }
    guard interval != .max, now >= lastRead, now - lastRead >= interval else { return .nothing }
    pingSent = now
    return .sendPing
  }
}

/// A budget that refills with time: bounds how fast a peer may open and reset streams.
struct TokenBucket {
  let burst: UInt64
  let perSecond: UInt64
  private var tokens: UInt64
  private var refilled: UInt64 = 0

  init(burst: UInt64, perSecond: UInt64) {
    self.burst = burst
    self.perSecond = perSecond
    tokens = burst
  }

  /// Takes one token; false if there is none.
  mutating func take(now: UInt64) -> Bool {
    if now > refilled {
      let nanosecondsPerToken = 1_000_000_000 / max(perSecond, 1)
      let gained = (now - refilled) / max(nanosecondsPerToken, 1)
      if gained > 0 {
        tokens = gained >= burst ? burst : min(burst, tokens + gained)
        refilled = now
      }
    }
    guard tokens > 0 else { return false }
    tokens -= 1
    return true
  }
}
