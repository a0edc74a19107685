// Watchers, and puts that make events for them.

import Actors
import ArgumentParser
import Synchronization

struct WatchCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "watch",
    abstract: "Watchers that get the events of puts; measures events and their delay.",
    discussion: """
      All watchers watch all keys with the prefix, so that each put makes one event for each of \
      them, or with --one-key-each watcher i watches key i. The delay of an event counts from when \
      its put was sent. With --puts-in-flight 0 the watchers are only held for --duration.
      """)

  @OptionGroup var server: ServerOptions
  @OptionGroup var keys: KeyOptions
  @OptionGroup var output: OutputOptions

  @Option(help: "Watchers in all.")
  var watchers = 200

  @Option(name: .shortAndLong, help: "Connections of the watchers.")
  var connections = 1

  @Option(name: .shortAndLong, help: "Watch streams on each connection.")
  var streams = 1

  @Flag(help: "Watcher i watches key i alone.")
  var oneKeyEach = false

  @Option(help: "Puts in flight, on a connection of their own.")
  var putsInFlight = 16

  @Option(help: "Puts per second; 0 for as many as are answered.")
  var rate = 0.0

  @Option(name: .shortAndLong, help: "Seconds to measure.")
  var duration = 5.0

  func validate() throws {
    guard watchers > 0, connections > 0, streams > 0, putsInFlight >= 0, duration > 0, rate >= 0
    else { throw ValidationError("--watchers, --connections and --streams must be at least 1") }
    guard keys.valueSize >= 8 || putsInFlight == 0 else {
      throw ValidationError("values need eight bytes, for the time at which they are sent")
    }
  }

  func run() async throws {
    DescriptorLimit.raise()
    let target = try await server.resolve()
    var workload = keys.workload(.put)
    workload.stampsValues = true
    let plan = WatchPlan(
      target: target, watchers: watchers, connections: connections, streams: streams,
      keys: workload.keys, keySpace: keys.keySpace, isOneKeyEach: oneKeyEach)
    let watch = try WatchLoad(plan)
    try watch.loop.start(name: "watch")
    defer { watch.loop.stopAndJoin() }
    let problem = await withCheckedContinuation { (waiter: CheckedContinuation<String?, _>) in
      watch.loop.execute { watch.open { waiter.resume(returning: $0) } }
    }
    if let problem { throw LoadError(description: problem) }
    output.progress.line("\(watchers) watchers are there")
    let before = processorSeconds()
    var report = Report(command: "watch")
    if putsInFlight > 0 {
      let nanoseconds = UInt64(duration * 1e9)
      let puts = try await LoadRunner.run(
        workload, putPlan(target), progress: output.progress
      ) { begin in
        watch.loop.execute { watch.begin(from: begin, end: begin + nanoseconds) }
      }
      report = Report(command: "watch", puts, generatorCPU: 0)
      report.facts = [("seconds", .number(Double(puts.elapsedNanoseconds) / 1e9))]
      try await waitForLastEvents(watch)
    } else {
      try await Task.sleep(for: .seconds(duration))
    }
    let result = await withCheckedContinuation { waiter in
      watch.loop.execute { waiter.resume(returning: watch.finish()) }
    }
    add(result, to: &report, cpu: processorSeconds() - before)
    try output.show(report)
  }

  /// Events of the last puts are on their way: waits until none has come for a while.
  private func waitForLastEvents(_ watch: WatchLoad) async throws {
    var before = -1
    for _ in 0..<30 {
      let now = watch.delivered.load(ordering: .relaxed)
      if now == before { return }
      before = now
      try await Task.sleep(for: .milliseconds(300))
    }
  }

  private func add(_ result: WatchResult, to report: inout Report, cpu: Double) {
    report.facts.append(("watchers", .integer(result.created)))
    report.facts.append(("events", .integer(result.events)))
    if result.events > 0 {
      report.rows.append(
        ReportRow(
          name: "event", latencies: result.latencies, perSecond: Double(result.inTime) / duration))
      report.facts.append(
        ("generator_cpu_us_per_event", .number(cpu * 1e6 / Double(result.events))))
    }
    for (text, count) in result.problems { report.errors[text, default: 0] += count }
  }

  private func putPlan(_ target: LoadTarget) -> LoadPlan {
    LoadPlan(
      target: target, connections: 1, streams: putsInFlight, workers: 1, rate: rate,
      warmUpNanoseconds: 0, durationNanoseconds: UInt64(duration * 1e9), total: 0)
  }
}
