// The members, which own open files and so cannot be copied into an array.

struct MemberList: ~Copyable {
  private final class Box {
    var member: ManagedMember
    init(_ member: consuming ManagedMember) { self.member = member }
  }

  private var boxes: [Box] = []

  var count: Int { boxes.count }
  var indices: Range<Int> { boxes.indices }

  mutating func append(_ member: consuming ManagedMember) { boxes.append(Box(member)) }

  subscript(index: Int) -> ManagedMember {
    _read { yield boxes[index].member }
    _modify { yield &boxes[index].member }
  }
}
