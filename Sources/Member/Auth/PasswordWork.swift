import Actors
import Base
import EtcdAPI
import Glibc
import StoreActor

/// What takes too long for the loop.
enum PasswordJob: Sendable {
  case verify(password: String, hash: Bytes)
  case hash(password: String, cost: Int)
  case sign(JSONWebTokens, user: String, revision: UInt64)

  /// Short work goes before hashes, which take a hundred times as long.
  var isUrgent: Bool {
    if case .sign = self { true } else { false }
  }
}

enum PasswordResult: Sendable {
  case verified(Bool)
  /// nil if the password cannot be hashed.
  case hashed(Bytes?)
  case signed(Result<String, EtcdError>)
}

/// Which jobs wait and which worker does what. A value: the owner moves the jobs.
struct PasswordQueue<Job> {
  private var idle: [Int]
  private var urgent = FirstInFirstOut<(id: UInt64, job: Job)>()
  private var ordinary = FirstInFirstOut<(id: UInt64, job: Job)>()
  private let limit: Int

  /// - Parameter limit: jobs that may wait.
  init(workers: Int, limit: Int) {
    idle = Array((0..<workers).reversed())
    self.limit = limit
  }

  var waitingCount: Int { urgent.count + ordinary.count }

  /// - Returns: false if too many wait already.
  mutating func add(_ id: UInt64, _ job: Job, isUrgent: Bool) -> Bool {
    if isUrgent {
      urgent.append((id, job))
      return true
    }
    guard ordinary.count < limit else { return false }
    ordinary.append((id, job))
    return true
  }

  /// A job for a worker that has none.
  mutating func next() -> (worker: Int, id: UInt64, job: Job)? {
    guard let worker = idle.last, let next = urgent.popFirst() ?? ordinary.popFirst() else {
      return nil
    }
    idle.removeLast()
    return (worker, next.id, next.job)
  }

  mutating func finished(worker: Int) { idle.append(worker) }
}

/// The threads that hash passwords and sign tokens. Each does one job at a time, with less weight than
/// the member's other threads: a storm of logins takes longer, and nothing else does.
struct PasswordWorkers: Sendable {
  /// Jobs that may wait for a worker; what comes beyond is refused.
  static let queueLimit = 2000
  private static let niceness: Int32 = 10

  let threads: [ThreadExecutor]

  /// Half the processors, at most four.
  static var defaultCount: Int {
    min(4, max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)) / 2))
  }

  init(count: Int = defaultCount) throws(ThreadError) {
    var threads: [ThreadExecutor] = []
    for number in 0..<count {
      let thread = try ThreadExecutor(name: "apus-login-\(number)")
      // On Linux this is the thread's own.
      thread.execute { setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, Self.niceness) }
      threads.append(thread)
    }
    self.threads = threads
  }

  func run(_ job: PasswordJob, on worker: Int, _ done: @escaping @Sendable (PasswordResult) -> Void)
  {
    threads[worker].execute { done(Self.result(of: job)) }
  }

  private static func result(of job: PasswordJob) -> PasswordResult {
    switch job {
    case .verify(let password, let hash): return .verified(Bcrypt.verify(password, hash))
    case .hash(let password, let cost):
      var random = SystemRandomNumberGenerator()
      let salt = (0..<Bcrypt.saltByteCount).map { _ in
        UInt8.random(in: .min ... .max, using: &random)
      }
      return .hashed(Bcrypt.hash(password, cost: cost, salt: salt))
    case .sign(let tokens, let user, let revision):
      do throws(EtcdError) {
        return .signed(
          .success(try tokens.sign(user: user, revision: revision, now: unixSeconds())))
      } catch {
        return .signed(.failure(error))
      }
    }
  }
}

/// Seconds since 1970.
func unixSeconds() -> Int64 { Int64(time(nil)) }
