public import Base
import Synchronization

/// Simple tokens: random letters that an entry of the log has tied to a user, so that every member
/// knows them. Each member forgets those that were not used there for a while, and all at a restart.
///
/// A token's text is its letters, a dot and a number. Members before 3.5.3 take the index of the entry,
/// later ones the one before it: both are understood. Times are monotonic nanoseconds, passed in.
public struct SimpleTokens: Sendable {
  public enum Lookup: Equatable, Sendable {
    case user(String)
    /// The entry that assigns the token may still have to be applied here.
    case unknownBefore(LogIndex)
    case invalid
  }

  private struct Entry {
    var user: AuthName
    var index: LogIndex
    var deadline: UInt64
  }

  private var entries: [String: Entry] = [:]
  private let ttl: UInt64

  /// - Parameter ttl: nanoseconds without use after which a token is forgotten.
  public init(ttl: UInt64) { self.ttl = ttl }

  public var count: Int { entries.count }

  /// - Parameter index: of the entry that says so.
  public mutating func assign(_ letters: String, index: LogIndex, to user: String, now: UInt64) {
    entries[letters] = Entry(user: AuthName(user), index: index, deadline: now &+ ttl)
  }

  /// Finds a token's user and lengthens the token's life.
  /// - Parameter applied: the last entry applied when the caller looked, before this call.
  public mutating func lookUp(_ token: String, applied: LogIndex, now: UInt64) -> Lookup {
    let parts = token.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 2, let number = LogIndex(parts[1]), number < .max else { return .invalid }
    let letters = String(parts[0])
    guard let entry = entries[letters] else {
      return applied <= number ? .unknownBefore(number + 1) : .invalid
    }
    guard number == entry.index || number + 1 == entry.index, now < entry.deadline else {
      return .invalid
    }
    entries[letters]?.deadline = now &+ ttl
    return .user(entry.user.text)
  }

  public mutating func remove(ofUser user: String) {
    let name = AuthName(user)
    entries = entries.filter { $0.value.user != name }
  }

  public mutating func removeAll() { entries = [:] }

  /// Forgets what was not used for too long.
  public mutating func expire(now: UInt64) {
    guard entries.contains(where: { $0.value.deadline <= now }) else { return }
    entries = entries.filter { $0.value.deadline > now }
  }
}

/// The tokens of a member: the store assigns them as it applies entries, the gateway looks them up.
///
/// A board rather than messages between the two: a token has to be known here before anybody can see
/// the entry that assigned it as applied.
public final class TokenBoard: Sendable {
  private let tokens: Mutex<SimpleTokens>

  public init(ttl: UInt64) { tokens = Mutex(SimpleTokens(ttl: ttl)) }

  public func change<Result: Sendable>(
    _ body: (inout SimpleTokens) -> sending Result
  ) -> Result {
    tokens.withLock { body(&$0) }
  }

  public func apply(_ event: TokenEvent, now: UInt64) {
    tokens.withLock { tokens in
      switch event {
      case .assigned(let letters, let index, let user):
        tokens.assign(letters, index: index, to: user, now: now)
      case .userChanged(let user): tokens.remove(ofUser: user)
      case .disabled: tokens.removeAll()
      }
    }
  }
}

/// What an applied entry means for tokens.
public enum TokenEvent: Equatable, Sendable {
  case assigned(letters: String, index: LogIndex, user: String)
  /// The user is gone or has another password.
  case userChanged(String)
  case disabled
}
