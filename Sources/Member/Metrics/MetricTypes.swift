import Synchronization

/// A count that only grows. Any thread; one relaxed atomic addition per update.
public final class Counter: Sendable {
  private let count = Atomic<UInt64>(0)

  public init() {}

  public func increment(by amount: UInt64 = 1) {
    count.wrappingAdd(amount, ordering: .relaxed)
  }

  /// Takes over a total that is counted elsewhere; a smaller one than the present is ignored.
  public func advance(to total: UInt64) { _ = count.max(total, ordering: .relaxed) }

  public var value: UInt64 { count.load(ordering: .relaxed) }
}

/// A whole number that goes up and down. Any thread.
public final class Gauge: Sendable {
  private let current = Atomic<Int64>(0)

  public init() {}

  public func set(_ value: Int64) { current.store(value, ordering: .relaxed) }
  public func set(_ value: UInt64) { set(Int64(clamping: value)) }
  public func set(_ value: Int) { set(Int64(value)) }
  /// 1 for true.
  public func set(_ value: Bool) { set(value ? 1 : Int64(0)) }
  public func add(_ amount: Int64) { current.wrappingAdd(amount, ordering: .relaxed) }

  public var value: Int64 { current.load(ordering: .relaxed) }
}

/// Observations sorted into fixed buckets, and their sum. Any thread.
///
/// One observation is two atomic additions; a concurrent ``snapshot()`` may see one of them.
public final class Histogram: Sendable {
  /// Upper bounds, ascending, without the infinite one.
  public let bounds: [Double]
  /// One count per bound, plus the infinite bucket. Not cumulative.
  private let counts: [Counter]
  /// Bit pattern of a `Double`.
  private let sum = Atomic<UInt64>(0)

  /// - Parameter bounds: ascending (precondition).
  public init(bounds: [Double]) {
    precondition(zip(bounds, bounds.dropFirst()).allSatisfy(<), "bounds must ascend")
    self.bounds = bounds
    counts = (0...bounds.count).map { _ in Counter() }
  }

  public func observe(_ value: Double) { observe(value, times: 1) }

  /// The same value several times: the mean of what was measured in one go.
  public func observe(_ value: Double, times: Int) {
    guard times > 0 else { return }
    var index = 0
    while index < bounds.count, value > bounds[index] { index += 1 }
    counts[index].increment(by: UInt64(times))
    let value = value * Double(times)
    var old = sum.load(ordering: .relaxed)
    while true {
      let new = (Double(bitPattern: old) + value).bitPattern
      let result = sum.compareExchange(expected: old, desired: new, ordering: .relaxed)
      if result.exchanged { return }
      old = result.original
    }
  }

  /// In seconds.
  public func observe(_ duration: Duration) {
    let (seconds, attoseconds) = duration.components
    observe(Double(seconds) + Double(attoseconds) * 1e-18)
  }

  public struct Snapshot: Sendable, Equatable {
    /// Cumulative, one per bound and the infinite one last, which equals the number of
    /// observations.
    public var cumulative: [UInt64]
    public var sum: Double
  }

  public func snapshot() -> Snapshot {
    var total: UInt64 = 0
    let cumulative = counts.map { count in
      total += count.value
      return total
    }
    return Snapshot(cumulative: cumulative, sum: Double(bitPattern: sum.load(ordering: .relaxed)))
  }

  /// `count` bounds that begin at `start`, each `factor` times the one before.
  public static func exponential(_ start: Double, _ factor: Double, _ count: Int) -> [Double] {
    var bounds: [Double] = []
    var bound = start
    for _ in 0..<count {
      bounds.append(bound)
      bound *= factor
    }
    return bounds
  }
}

/// Series of one name that differ in their labels.
///
/// ``series(_:)`` takes a short lock: callers on a hot path keep the series they were given.
public final class Labelled<Metric: AnyObject & Sendable>: Sendable {
  public let labelNames: [String]
  private let make: @Sendable () -> Metric
  private let children: Mutex<[[String]: Metric]>

  init(_ labelNames: [String], make: @escaping @Sendable () -> Metric) {
    self.labelNames = labelNames
    self.make = make
    children = Mutex([:])
  }

  /// The series with these label values, in the order of ``labelNames``; created at first use.
  public func series(_ values: String...) -> Metric { series(values) }

  public func series(_ values: [String]) -> Metric {
    precondition(values.count == labelNames.count, "wrong number of label values")
    return children.withLock { children in
      if let existing = children[values] { return existing }
      let new = make()
      children[values] = new
      return new
    }
  }

  public var count: Int { children.withLock { $0.count } }

  /// All series by label values, ascending.
  func sorted() -> [(values: [String], metric: Metric)] {
    children.withLock { children in children.map { (values: $0.key, metric: $0.value) } }
      .sorted { $0.values.lexicographicallyPrecedes($1.values) }
  }
}
