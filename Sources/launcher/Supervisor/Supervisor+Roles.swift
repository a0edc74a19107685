// Who leads.

import Actors

extension Supervisor {
  /// Asks every member for its role, unless a round is under way; tells the user of a new leader.
  func pollRoles() {
    guard !pollIsUnderWay, !endIsRequested else { return }
    let asked = members.indices.filter { index in
      members[index].phase == .running || members[index].phase == .starting
    }
    if asked.isEmpty { return }
    pollIsUnderWay = true
    pollAnswersDue = asked.count
    for index in asked {
      let run = members[index].starts
      MetricsProbe.ask(members[index].probeTarget, loop: loop) { role in
        self.didLearn(role, index, run)
        self.pollAnswersDue -= 1
        if self.pollAnswersDue == 0 { self.didFinishPoll() }
      }
    }
  }

  private func didLearn(_ role: MemberRole?, _ index: Int, _ run: Int) {
    guard members[index].starts == run else { return }
    switch members[index].phase {
    case .starting where role == nil: return
    case .running, .starting: members[index].role = role ?? .unknown
    default: return
    }
    if role != nil && role != .leaderless { didAnswerProbe(index) }
  }

  private func didFinishPoll() {
    pollIsUnderWay = false
    // Of two that claim to lead, the one that has just been seen to change is right.
    let leaders = members.indices.filter { members[$0].role == .leader }
    let found = leaders.first { $0 != leader } ?? leaders.first
    if let found {
      leaderlessRounds = 0
      if found != leader { didChange(leader: found) }
    } else if leader != nil {
      leaderlessRounds += 1
      if leaderlessRounds == 2 {
        leader = nil
        if isFollowing {
          console.print(formatter.clusterEvent("no member leads", at: Clock.timeOfDay()))
        }
      }
    }
    stateDidChange()
  }

  private func didChange(leader found: Int) {
    let before = leader
    leader = found
    guard isFollowing else { return }
    let was = before.map { " (before: \(members[$0].plan.name))" } ?? ""
    announce("is the leader now\(was)", found)
  }
}
