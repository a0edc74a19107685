// Standard output, written by a thread of its own.

import Actors
import Glibc
import Synchronization

/// Prints without ever making the caller wait: a terminal that was stopped with Ctrl-S, or a reader
/// that does not read, must not stop the supervisor.
///
/// Any thread.
final class Console: Sendable {
  private struct State {
    var text = ""
    var isDrainDue = false
    var droppedLines = 0
    /// A line that is rewritten in place, below everything else.
    var transient = ""
    var isTransientShown = false
  }

  /// What may wait for the terminal.
  private static let pendingBytesMax = 4 << 20

  let isTerminal: Bool
  let palette: Palette
  private let writer: ThreadExecutor
  private let state = Mutex(State())

  init() throws(ThreadError) {
    isTerminal = isatty(STDOUT_FILENO) == 1
    palette = Palette(descriptor: STDOUT_FILENO)
    writer = try ThreadExecutor(name: "console")
  }

  func print(_ line: String = "") { print(lines: [line]) }

  /// Prints lines next to each other, or drops them all if too much waits already.
  func print(lines: [String]) {
    update { state in
      if state.text.utf8.count > Self.pendingBytesMax {
        state.droppedLines += lines.count
        return
      }
      for line in lines { state.text += line + "\n" }
    }
  }

  /// Shows a line that the next call replaces; an empty one removes it. Terminals only.
  func showTransient(_ line: String) {
    if isTerminal { update { $0.transient = line } }
  }

  /// Writes what waits and ends the thread. Not on the console's own thread.
  func finish() { writer.stop() }

  private func update(_ change: (inout State) -> Void) {
    let mustSchedule = state.withLock { state in
      change(&state)
      defer { state.isDrainDue = true }
      return !state.isDrainDue
    }
    if mustSchedule { writer.execute { self.drain() } }
  }

  private func drain() {
    let text = state.withLock { state in
      var text = state.isTransientShown ? "\r\u{1b}[K" : ""
      text += state.text
      if state.droppedLines > 0 {
        text += "(\(state.droppedLines) lines were not shown; they are in the log files)\n"
      }
      text += state.transient
      state.isTransientShown = !state.transient.isEmpty
      state.text = ""
      state.droppedLines = 0
      state.isDrainDue = false
      return text
    }
    Files.writeAll(STDOUT_FILENO, text)
  }
}

/// Prints to standard error at once.
func printError(_ line: String) {
  Files.writeAll(STDERR_FILENO, line + "\n")
}
