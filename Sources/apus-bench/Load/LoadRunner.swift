// All workers of a load, from the first connection to the summed result.

import Actors
import Glibc
import Synchronization

/// A load that could not be put on the servers.
struct LoadError: Error, CustomStringConvertible {
  let description: String
}

/// Runs loads, and says how they get on.
enum LoadRunner {
  /// - Parameters:
  ///   - progress: prints a line every second.
  ///   - onBegin: called with the time when all connections are there and the load begins.
  static func run(
    _ workload: Workload, _ plan: LoadPlan, progress: Progress,
    onBegin: (UInt64) -> Void = { _ in }
  ) async throws -> LoadResult {
    var plan = plan
    plan.workers = max(1, min(plan.workers, plan.connections))
    let workers = try (0..<plan.workers).map { try LoadWorker(workload, plan, number: $0) }
    for (number, worker) in workers.enumerated() {
      try worker.loop.start(name: "load-\(number)")
    }
    defer {
      for worker in workers {
        worker.loop.execute { worker.close() }
        worker.loop.stopAndJoin()
      }
    }
    for worker in workers {
      let problem = await withCheckedContinuation { (waiter: CheckedContinuation<String?, _>) in
        worker.loop.execute { worker.connect { waiter.resume(returning: $0) } }
      }
      if let problem { throw LoadError(description: problem) }
    }
    onBegin(monotonicNanoseconds())
    return await measure(workers, progress)
  }

  private static func measure(_ workers: [LoadWorker], _ progress: Progress) async -> LoadResult {
    let begin = monotonicNanoseconds() + 5_000_000
    let reporter = Task {
      await progress.follow { workers.reduce(0) { $0 + $1.completed.load(ordering: .relaxed) } }
    }
    defer { reporter.cancel() }
    return await withTaskGroup(of: LoadResult.self) { group in
      for worker in workers {
        group.addTask {
          await withCheckedContinuation { waiter in
            worker.loop.execute { worker.run(from: begin) { waiter.resume(returning: $0) } }
          }
        }
      }
      var sum = LoadResult()
      for await part in group { sum.add(part) }
      return sum
    }
  }
}

/// A line on standard error every second.
struct Progress: Sendable {
  let isShown: Bool

  func follow(_ count: @escaping @Sendable () -> Int) async {
    guard isShown else { return }
    let clock = ContinuousClock()
    let start = clock.now
    var before = 0
    var second = 0
    while !Task.isCancelled {
      second += 1
      do { try await clock.sleep(until: start + .seconds(second)) } catch { break }
      let now = count()
      line("\(second) s: \(now - before)/s, \(now) in all")
      before = now
    }
  }

  func line(_ text: String) {
    guard isShown else { return }
    let bytes = Array((text + "\n").utf8)
    _ = bytes.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
  }
}
