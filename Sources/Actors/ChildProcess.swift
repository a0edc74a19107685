// Child processes: start, output, signals, exit.

import CLibUV
import Glibc

/// A program could not be started.
public struct SpawnError: Error, Sendable, Equatable, CustomStringConvertible {
  public let path: String
  public let errno: Int32
  /// Go's wording: `fork/exec /bin/x: no such file or directory`.
  public var description: String { "fork/exec \(path): \(errnoText(errno))" }
}

/// A child process in a session of its own, so that a terminal's Ctrl-C does not reach it.
///
/// The loop keeps it alive until its exit has been reported. If the loop stops first, the child is
/// left running and nothing is reported. Loop thread only, checked; hence the unchecked conformance.
public final class ChildProcess: LoopResource, @unchecked Sendable {
  public enum Output: Sendable { case standardOutput, standardError }

  public enum Exit: Sendable, Equatable {
    case status(Int32)
    case signal(Int32)
  }

  public typealias OutputHandler = (Output, UnsafeRawBufferPointer) -> Void
  public typealias ExitHandler = (Exit) -> Void

  /// How long output is awaited after the exit: a grandchild may hold the pipes open for ever.
  private static let drainMilliseconds = 1000

  public let loop: EventLoop
  /// The process id, which is also its process group and session.
  public let pid: Int32
  private let handle: UnsafeMutablePointer<uv_process_t>
  private var resourceID: UInt64 = 0
  private var onExit: ExitHandler?
  private var pipes: [StreamConnection] = []
  private var openPipes = 0
  private var exit: Exit?
  private var drainTimer: LoopTimer?
  private var isOpen = true

  /// Starts a program. Standard input is `/dev/null`. Blocks until the child has called `exec`.
  ///
  /// - Parameters:
  ///   - path: the program; searched in `PATH` if it has no slash.
  ///   - arguments: without the program's own name.
  ///   - environment: `KEY=value` strings; nil inherits this process's environment.
  ///   - onOutput: chunks as they arrive, valid during the call only.
  ///   - onExit: called once, after all output or one second after the exit.
  public static func spawn(
    path: String, arguments: [String], environment: [String]? = nil,
    workingDirectory: String? = nil, loop: EventLoop, onOutput: @escaping OutputHandler,
    onExit: @escaping ExitHandler
  ) throws(SpawnError) -> ChildProcess {
    loop.preconditionOnLoop()
    let output = try PipePair(path)
    let errors = try PipePair(path)
    let process = UnsafeMutablePointer<uv_process_t>.allocate(capacity: 1)
    process.pointee.data = nil
    let status = start(
      process, loop, path, [path] + arguments, environment, workingDirectory,
      output.writeEnd, errors.writeEnd)
    guard status == 0 else {
      uv_close(asHandle(process), freeClosedHandle)
      throw SpawnError(path: path, errno: -status)
    }
    let child = ChildProcess(loop, process, onExit)
    child.read(output.takeReadEnd(), .standardOutput, onOutput)
    child.read(errors.takeReadEnd(), .standardError, onOutput)
    return child
  }

  private init(
    _ loop: EventLoop, _ handle: UnsafeMutablePointer<uv_process_t>, _ onExit: @escaping ExitHandler
  ) {
    self.loop = loop
    self.handle = handle
    self.onExit = onExit
    pid = handle.pointee.pid
    handle.pointee.data = Unmanaged.passUnretained(self).toOpaque()
    resourceID = loop.register(self)
  }

  /// False once the child has exited, though its exit may not have been reported yet.
  public var isRunning: Bool {
    loop.preconditionOnLoop()
    return exit == nil
  }

  /// Sends a signal to the child, or to its whole process group.
  ///
  /// - Returns: false if it has exited (its id may belong to another process by then) or the
  ///   system refuses.
  @discardableResult
  public func signal(_ number: Int32, wholeGroup: Bool = false) -> Bool {
    loop.preconditionOnLoop()
    guard isOpen, exit == nil else { return false }
    return kill(wholeGroup ? -pid : pid, number) == 0
  }

  // MARK: Exit

  private func read(_ descriptor: Int32, _ kind: Output, _ onOutput: @escaping OutputHandler) {
    guard let stream = openStream(descriptor, isTCP: false, loop: loop) else { return }
    let pipe = StreamConnection(loop: loop, stream: stream)
    pipes.append(pipe)
    openPipes += 1
    pipe.startReading(
      onBytes: { onOutput(kind, $0) },
      onEnd: { [weak self] _ in
        pipe.close()
        self?.pipeEnded()
      })
  }

  private func pipeEnded() {
    openPipes -= 1
    reportIfDone()
  }

  fileprivate func didExit(_ status: Int64, _ signal: Int32) {
    exit = signal == 0 ? .status(Int32(truncatingIfNeeded: status)) : .signal(signal)
    let timer = LoopTimer(loop: loop) { [weak self] in
      self?.openPipes = 0
      self?.reportIfDone()
    }
    if openPipes > 0 { timer.schedule(afterMilliseconds: Self.drainMilliseconds) }
    drainTimer = timer
    reportIfDone()
  }

  private func reportIfDone() {
    guard isOpen, let exit, openPipes == 0, let onExit else { return }
    self.onExit = nil
    closeHandles()
    onExit(exit)
  }

  private func closeHandles() {
    guard isOpen else { return }
    isOpen = false
    drainTimer?.cancel()
    for pipe in pipes { pipe.close() }
    pipes = []
    handle.pointee.data = nil
    uv_close(asHandle(handle), freeClosedHandle)
    loop.unregister(resourceID)
  }

  func loopWillClose() {
    onExit = nil
    closeHandles()
  }

  // MARK: Start

  private static func start(
    _ process: UnsafeMutablePointer<uv_process_t>, _ loop: EventLoop, _ path: String,
    _ arguments: [String], _ environment: [String]?, _ workingDirectory: String?,
    _ output: Int32, _ errors: Int32
  ) -> Int32 {
    let argumentList = CStringList(arguments)
    let environmentList = environment.map { CStringList($0) }
    let strings = CStringList([path] + (workingDirectory.map { [$0] } ?? []))
    var containers = [uv_stdio_container_t(), uv_stdio_container_t(), uv_stdio_container_t()]
    containers[0].flags = UV_IGNORE
    containers[1].flags = UV_INHERIT_FD
    containers[1].data.fd = output
    containers[2].flags = UV_INHERIT_FD
    containers[2].data.fd = errors
    var options = uv_process_options_t()
    options.exit_cb = childExits
    options.file = UnsafePointer(strings.pointers[0])
    options.args = argumentList.pointers
    options.env = environmentList?.pointers
    if workingDirectory != nil { options.cwd = UnsafePointer(strings.pointers[1]) }
    options.flags = UInt32(UV_PROCESS_DETACHED.rawValue)
    return containers.withUnsafeMutableBufferPointer { containers in
      options.stdio_count = Int32(containers.count)
      options.stdio = containers.baseAddress
      return withExtendedLifetime((argumentList, environmentList, strings)) {
        uv_spawn(loop.uv, process, &options)
      }
    }
  }
}

/// A pipe whose ends are closed unless they are taken.
private final class PipePair {
  private var readEnd: Int32
  let writeEnd: Int32

  init(_ path: String) throws(SpawnError) {
    var ends: [Int32] = [-1, -1]
    let status = uv_pipe(&ends, Int32(UV_NONBLOCK_PIPE.rawValue), 0)
    if status != 0 { throw SpawnError(path: path, errno: -status) }
    readEnd = ends[0]
    writeEnd = ends[1]
  }

  deinit {
    close(writeEnd)
    if readEnd >= 0 { close(readEnd) }
  }

  func takeReadEnd() -> Int32 {
    defer { readEnd = -1 }
    return readEnd
  }
}

/// A null-terminated array of C strings.
private final class CStringList {
  let pointers: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
  private let count: Int

  init(_ strings: [String]) {
    count = strings.count
    pointers = .allocate(capacity: strings.count + 1)
    for (index, string) in strings.enumerated() {
      pointers.advanced(by: index).initialize(to: strdup(string))
    }
    pointers.advanced(by: strings.count).initialize(to: nil)
  }

  deinit {
    for index in 0..<count { free(pointers[index]) }
    pointers.deallocate()
  }
}

private func childExits(
  _ handle: UnsafeMutablePointer<uv_process_t>?, _ status: Int64, _ signal: Int32
) {
  guard let data = handle?.pointee.data else { return }
  Unmanaged<ChildProcess>.fromOpaque(data).takeUnretainedValue().didExit(status, signal)
}
