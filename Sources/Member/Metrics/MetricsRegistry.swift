import Synchronization

/// All metrics of a process, and their text form (Prometheus exposition format 0.0.4).
///
/// Metrics are registered once, at assembly; the registry's lock is never taken by an update.
public final class MetricsRegistry: Sendable {
  public enum Kind: String, Sendable { case counter, gauge, histogram }

  fileprivate enum Source: Sendable {
    case counter(Counter)
    case gauge(Gauge)
    case histogram(Histogram)
    case counters(Labelled<Counter>)
    case gauges(Labelled<Gauge>)
    case histograms(Labelled<Histogram>)
    /// Computed when rendered; nil leaves the metric out.
    case computed(@Sendable () -> Double?)
  }

  fileprivate struct Family: Sendable {
    let name: String
    let help: String
    let kind: Kind
    let source: Source
  }

  private let families = Mutex<[Family]>([])

  public init() {}

  private func add(_ name: String, _ help: String, _ kind: Kind, _ source: Source) {
    families.withLock { families in
      precondition(!families.contains { $0.name == name }, "metric \(name) exists already")
      families.append(Family(name: name, help: help, kind: kind, source: source))
    }
  }

  // A metric's name must be new in every one of these (precondition).

  public func counter(_ name: String, _ help: String) -> Counter {
    let metric = Counter()
    add(name, help, .counter, .counter(metric))
    return metric
  }

  public func gauge(_ name: String, _ help: String) -> Gauge {
    let metric = Gauge()
    add(name, help, .gauge, .gauge(metric))
    return metric
  }

  public func histogram(_ name: String, _ help: String, bounds: [Double]) -> Histogram {
    let metric = Histogram(bounds: bounds)
    add(name, help, .histogram, .histogram(metric))
    return metric
  }

  public func counters(_ name: String, _ help: String, labels: [String]) -> Labelled<Counter> {
    let metric = Labelled(labels) { Counter() }
    add(name, help, .counter, .counters(metric))
    return metric
  }

  public func gauges(_ name: String, _ help: String, labels: [String]) -> Labelled<Gauge> {
    let metric = Labelled(labels) { Gauge() }
    add(name, help, .gauge, .gauges(metric))
    return metric
  }

  public func histograms(_ name: String, _ help: String, labels: [String], bounds: [Double])
    -> Labelled<Histogram>
  {
    let metric = Labelled(labels) { Histogram(bounds: bounds) }
    add(name, help, .histogram, .histograms(metric))
    return metric
  }

  /// A value that is computed at each ``render()``, on its thread; nil leaves the metric out.
  public func computed(
    _ name: String, _ help: String, kind: Kind, _ value: @escaping @Sendable () -> Double?
  ) {
    precondition(kind != .histogram, "a computed metric is one number")
    add(name, help, kind, .computed(value))
  }

  /// The body of `GET /metrics`. Families are sorted by name, series by label values. Families
  /// with labels that have no series yet are left out.
  public func render() -> [UInt8] {
    let families = families.withLock { $0 }.sorted { $0.name < $1.name }
    var text = MetricsText()
    for family in families { family.render(into: &text) }
    return text.bytes
  }
}

extension MetricsRegistry.Family {
  fileprivate func render(into text: inout MetricsText) {
    switch source {
    case .counter(let metric):
      text.header(name, help, kind.rawValue)
      text.sample(name, [], Double(metric.value))
    case .gauge(let metric):
      text.header(name, help, kind.rawValue)
      text.sample(name, [], Double(metric.value))
    case .histogram(let metric):
      text.header(name, help, kind.rawValue)
      text.histogram(name, [], metric.bounds, metric.snapshot())
    case .computed(let value):
      guard let value = value() else { return }
      text.header(name, help, kind.rawValue)
      text.sample(name, [], value)
    case .counters(let labelled):
      render(labelled, into: &text) { text, labels, metric in
        text.sample(name, labels, Double(metric.value))
      }
    case .gauges(let labelled):
      render(labelled, into: &text) { text, labels, metric in
        text.sample(name, labels, Double(metric.value))
      }
    case .histograms(let labelled):
      render(labelled, into: &text) { text, labels, metric in
        text.histogram(name, labels, metric.bounds, metric.snapshot())
      }
    }
  }

  private func render<Metric>(
    _ labelled: Labelled<Metric>, into text: inout MetricsText,
    _ write: (inout MetricsText, [MetricsText.Label], Metric) -> Void
  ) {
    let series = labelled.sorted()
    if series.isEmpty { return }
    text.header(name, help, kind.rawValue)
    for (values, metric) in series {
      let labels = zip(labelled.labelNames, values).map { MetricsText.Label(name: $0, value: $1) }
      write(&text, labels.sorted { $0.name < $1.name }, metric)
    }
  }
}

/// Writes the exposition format.
struct MetricsText {
  struct Label {
    let name: String
    let value: String
  }

  private(set) var bytes: [UInt8] = []

  init() { bytes.reserveCapacity(256 * 1024) }

  private mutating func raw(_ text: String) { bytes.append(contentsOf: text.utf8) }
  private mutating func raw(_ character: Unicode.Scalar) { bytes.append(UInt8(ascii: character)) }

  mutating func header(_ name: String, _ help: String, _ type: String) {
    raw("# HELP ")
    raw(name)
    raw(" ")
    escape(help, quotes: false)
    raw("\n# TYPE ")
    raw(name)
    raw(" ")
    raw(type)
    raw("\n")
  }

  private mutating func escape(_ text: String, quotes: Bool) {
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\\"): raw("\\\\")
      case UInt8(ascii: "\n"): raw("\\n")
      case UInt8(ascii: "\"") where quotes: raw("\\\"")
      default: bytes.append(byte)
      }
    }
  }

  mutating func sample(
    _ name: String, suffix: String = "", _ labels: [Label], bound: String? = nil, _ value: Double
  ) {
    raw(name)
    raw(suffix)
    if !labels.isEmpty || bound != nil {
      raw("{")
      var separator = ""
      for label in labels {
        raw(separator)
        separator = ","
        raw(label.name)
        raw("=\"")
        escape(label.value, quotes: true)
        raw("\"")
      }
      if let bound {
        raw(separator)
        raw("le=\"")
        raw(bound)
        raw("\"")
      }
      raw("}")
    }
    raw(" ")
    raw(Self.number(value))
    raw("\n")
  }

  mutating func histogram(
    _ name: String, _ labels: [Label], _ bounds: [Double], _ snapshot: Histogram.Snapshot
  ) {
    for (bound, count) in zip(bounds, snapshot.cumulative) {
      sample(name, suffix: "_bucket", labels, bound: Self.number(bound), Double(count))
    }
    let total = Double(snapshot.cumulative.last ?? 0)
    sample(name, suffix: "_bucket", labels, bound: "+Inf", total)
    sample(name, suffix: "_sum", labels, snapshot.sum)
    sample(name, suffix: "_count", labels, total)
  }

  /// The shortest text that reads back as `value`, in Go's choice of form: with an exponent
  /// below 1e-4 and from 1e+06.
  static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    if value == 0 { return "0" }
    let sign = value < 0 ? "-" : ""
    let (digits, exponent) = shortestDigits(value.magnitude)
    if exponent < -4 || exponent >= 6 {
      let mantissa = digits.count > 1 ? "\(digits.prefix(1)).\(digits.dropFirst())" : digits
      let size = exponent.magnitude < 10 ? "0\(exponent.magnitude)" : "\(exponent.magnitude)"
      return "\(sign)\(mantissa)e\(exponent < 0 ? "-" : "+")\(size)"
    }
    if exponent < 0 {
      return sign + "0." + String(repeating: "0", count: -exponent - 1) + digits
    }
    let whole = exponent + 1
    if digits.count <= whole {
      return sign + digits + String(repeating: "0", count: whole - digits.count)
    }
    return "\(sign)\(digits.prefix(whole)).\(digits.dropFirst(whole))"
  }

  /// Significant digits without trailing zeros, and the decimal exponent of the first.
  private static func shortestDigits(_ value: Double) -> (digits: String, exponent: Int) {
    let parts = value.description.split(separator: "e")
    var exponent = parts.count > 1 ? Int(parts[1]) ?? 0 : 0
    let number = parts[0].split(separator: ".", omittingEmptySubsequences: false)
    let whole = number[0]
    var digits = String(whole) + (number.count > 1 ? String(number[1]) : "")
    exponent += whole.count - 1
    while digits.count > 1, digits.first == "0" {
      digits.removeFirst()
      exponent -= 1
    }
    while digits.count > 1, digits.last == "0" { digits.removeLast() }
    return (digits, exponent)
  }
}
