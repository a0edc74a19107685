import ArgumentParser
import Base
import Glibc

@main
struct FuzzCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fuzz",
    abstract: "Feeds damaged input to everything that reads bytes from outside.",
    discussion: "An input follows from --seed and its number: --from N --count 1 runs it again.")

  @Argument(
    help:
      "What to feed: \(FuzzTargets.all.map { $0.name }.joined(separator: ", ")); all by default.")
  var targets: [String] = []
  @Option(help: "Inputs for each.")
  var count: UInt64 = 100_000
  @Option(help: "Number of the first input.")
  var from: UInt64 = 0
  @Option(help: "Seed of all inputs.")
  var seed: UInt64 = 1
  @Option(help: "Most megabytes of memory that a run may take.")
  var megabytes = 512
  @Option(help: "Most seconds for one input.")
  var seconds: UInt32 = 5
  @Option(help: .hidden)
  var worker: String?

  func validate() throws {
    for name in targets where !FuzzTargets.all.contains(where: { $0.name == name }) {
      throw ValidationError("no such target: \(name)")
    }
  }

  func run() throws {
    if let worker { return runWorker(worker) }
    let names = targets.isEmpty ? FuzzTargets.all.map { $0.name } : targets
    var failed = false
    for name in names where !feed(name) { failed = true }
    if failed { throw ExitCode(1) }
  }

  /// Runs a target in a process of its own, which an input may end.
  private func feed(_ name: String) -> Bool {
    let start = Self.now
    let program = "/proc/\(getpid())/exe"
    let command =
      "\(program) \(name) --worker \(name) --seed \(seed) --from \(from) --count \(count) "
      + "--megabytes \(megabytes) --seconds \(seconds)"
    guard let pipe = popen(command, "r") else { return false }
    var last: UInt64 = from
    var isDone = false
    var peak = 0
    var line = [CChar](repeating: 0, count: 256)
    while fgets(&line, 256, pipe) != nil {
      let text = String(
        decoding: line.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      let words = text.split(separator: " ")
      guard words.count == 2, let number = UInt64(words[1]) else { continue }
      switch words[0] {
      case "at": last = number
      case "peak":
        peak = Int(number)
        isDone = true
      default: break
      }
    }
    let status = pclose(pipe)
    let seconds = Self.now - start
    if isDone, status == 0 {
      let rate = Int(Double(count) / max(seconds, 0.001))
      print("\(name): \(count) inputs in \(Int(seconds)) s (\(rate)/s), peak \(peak / 1024) MB")
      return true
    }
    print(
      "\(name): ended with \(status) at input \(last); again: fuzz \(name) --seed \(seed) "
        + "--from \(last) --count 1")
    return false
  }

  private func runWorker(_ name: String) {
    guard let target = FuzzTargets.all.first(where: { $0.name == name }) else { return }
    drive(target)
    var usage = rusage()
    getrusage(Int32(RUSAGE_SELF.rawValue), &usage)
    print("peak \(usage.ru_maxrss)")
  }

  private func drive(_ type: (some FuzzTarget).Type) {
    let corpus = type.corpus
    defer { type.cleanUp() }
    var target = type.init()
    for number in from..<from + count {
      var mutator = Mutator(seed: seed &* 0x9e37_79b9 &+ number)
      let input = mutator.mutate(corpus)
      // Each number is told before its input is read: the last one told is the guilty one.
      Self.tell(number)
      // An input that takes too long ends the process.
      alarm(seconds)
      target.read(input, &mutator.random)
      if number % 4096 == 0 { checkMemory() }
    }
    alarm(0)
  }

  private func checkMemory() {
    var usage = rusage()
    getrusage(Int32(RUSAGE_SELF.rawValue), &usage)
    precondition(usage.ru_maxrss <= megabytes * 1024, "an input took too much memory")
  }

  /// Not `print`: nothing may be left in a buffer.
  private static func tell(_ number: UInt64) {
    let line = Bytes("at \(number)\n".utf8)
    _ = line.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
  }

  private static var now: Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
}
