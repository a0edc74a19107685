// Requests from other shells.

import Actors
import Glibc

extension Supervisor {
  private static let serveMilliseconds = 30_000

  /// Carries out a request and answers it.
  func answer(_ request: ControlRequest, _ session: ControlSession) async {
    if endIsRequested && request.verb != .status {
      return session.send(.failed("the launcher is stopping the cluster already"))
    }
    do throws(ControlError) {
      let chosen = try select(request)
      switch request.verb {
      case .status:
        await refreshRoles()
        return session.send(.status(report()))
      case .stop where request.members.isEmpty:
        farewells.append(session)
        return requestEnd("launcher stop")
      case .stop: for index in chosen { await stopOnRequest(index, session) }
      case .kill: for index in chosen { await killOnRequest(index, session) }
      case .restart: for index in chosen { await restartOnRequest(index, session) }
      case .pause: for index in chosen { pauseOnRequest(index, session) }
      case .resume: for index in chosen { resumeOnRequest(index, session) }
      case .add: try await addOnRequest(request, session)
      case .remove: for index in chosen { try await removeOnRequest(index, request, session) }
      case .replace: for index in chosen { try await replaceOnRequest(index, request, session) }
      }
      session.send(.done)
    } catch {
      session.send(.failed(error.description))
    }
  }

  private func select(_ request: ControlRequest) throws(ControlError) -> [Int] {
    let mayBeEmpty = request.verb == .status || request.verb == .stop
    // Whom to add is nobody's name yet.
    if request.verb == .add { return [] }
    if request.members.isEmpty {
      if request.isAll || mayBeEmpty { return present }
      throw ControlError("name a member, or all of them with --all")
    }
    var chosen: [Int] = []
    for name in request.members {
      guard let index = present.first(where: { members[$0].plan.name == name }) else {
        let names = present.map { members[$0].plan.name }
        let near = Spelling.nearest(to: name, among: names).map { ", did you mean \($0)?" } ?? ""
        throw ControlError(
          "no member is named \"\(name)\"\(near); the members are \(names.joined(separator: ", "))")
      }
      if !chosen.contains(index) { chosen.append(index) }
    }
    return chosen
  }

  private func refreshRoles() async {
    await wait(atMostMilliseconds: 1500) { !$0.pollIsUnderWay }
    pollRoles()
    await wait(atMostMilliseconds: 1500) { !$0.pollIsUnderWay }
  }

  private func stopOnRequest(_ index: Int, _ session: ControlSession) async {
    cancelRestart(index)
    guard members[index].phase.isAlive else { return note("is not running", index, session) }
    announce("is being stopped on request", index)
    let text = await stop(index)
    announce("stopped", index)
    session.send(.note(text))
  }

  private func killOnRequest(_ index: Int, _ session: ControlSession) async {
    cancelRestart(index)
    guard members[index].phase.isAlive, let child = members[index].child else {
      return note("is not running", index, session)
    }
    let run = members[index].starts
    kill(index)
    await wait(atMostMilliseconds: Self.killMilliseconds) {
      !$0.members[index].phase.isAlive || $0.members[index].starts != run
    }
    announce("killed on request (pid \(child.pid))", index)
    note("killed (pid \(child.pid))", index, session)
  }

  private func restartOnRequest(_ index: Int, _ session: ControlSession) async {
    cancelRestart(index)
    if members[index].phase.isAlive {
      announce("is being restarted on request", index)
      session.send(.note(await stop(index)))
    }
    // Meanwhile somebody else may have started it, or asked for the end of everything.
    guard !endIsRequested, !members[index].phase.isAlive else {
      return note("is not started again: another request came first", index, session)
    }
    spawn(index)
    let run = members[index].starts
    let serves = await wait(atMostMilliseconds: Self.serveMilliseconds) {
      $0.members[index].phase != .starting || $0.members[index].starts != run || $0.endIsRequested
    }
    let pid = members[index].child.map { " (pid \($0.pid))" } ?? ""
    if members[index].phase == .running {
      note("serves clients\(pid)", index, session)
    } else if serves {
      note("is \(members[index].phase.text); see: launcher logs \(name(index))", index, session)
    } else {
      note("was started\(pid) but does not serve yet", index, session)
    }
  }

  private func pauseOnRequest(_ index: Int, _ session: ControlSession) {
    guard members[index].phase == .running || members[index].phase == .starting,
      let child = members[index].child, child.signal(SIGSTOP)
    else {
      return note("is \(members[index].phase.text); there is nothing to pause", index, session)
    }
    members[index].phase = .paused
    members[index].role = .unknown
    announce("paused on request (pid \(child.pid))", index)
    note("paused (pid \(child.pid))", index, session)
    stateDidChange()
  }

  private func resumeOnRequest(_ index: Int, _ session: ControlSession) {
    // Also for a member that somebody else has paused.
    guard members[index].phase.isAlive, let child = members[index].child, child.signal(SIGCONT)
    else {
      return note("is \(members[index].phase.text); there is nothing to resume", index, session)
    }
    if members[index].phase == .paused {
      members[index].phase = members[index].hasServed ? .running : .starting
    }
    announce("resumed on request (pid \(child.pid))", index)
    note("resumed (pid \(child.pid))", index, session)
    pollRoles()
    stateDidChange()
  }

  private func cancelRestart(_ index: Int) {
    members[index].restartTimer?.cancel()
    members[index].restartTimer = nil
    stateDidChange()
  }

  private func name(_ index: Int) -> String { members[index].plan.name }

  private func note(_ text: String, _ index: Int, _ session: ControlSession) {
    session.send(.note("\(name(index)) \(text)"))
  }
}
