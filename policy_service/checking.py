"""What policy needs of a pack: a bundle that compiles, nothing questionable in it, cases for all of it."""

from collections.abc import Iterator

from mesh.checks import Finding, shown, tools_of
from mesh.pack import Pack
from policy_service.bundle import SCHEMA_FILE, Bundle, BundleContents, BundleError
from policy_service.cases import run_cases, uncovered
from policy_service.lint import lint, schema_tools


def check(pack: Pack) -> Iterator[Finding]:
    """What is wrong with the policies and their cases."""
    try:
        bundle = Bundle.load(BundleContents.read(pack.policies, pack.name))
        results = run_cases(bundle)
    except BundleError as error:
        yield _not_compiled(pack, error)
        return
    tools = tools_of(pack)
    effects = [tool.name for tool in tools.values() if not tool.read_only]
    for found in lint(bundle, effects):
        yield _at(pack, found.file, f"policy {found.policy}" if found.policy else "entity Tool", found.problem)
    for name in sorted(set(schema_tools(bundle)) - tools.keys()):
        yield _at(pack, SCHEMA_FILE, "entity Tool", f"{name} is no tool of the pack: it has {', '.join(sorted(tools))}")
    for result in results:
        for problem in result.problems:
            yield _at(pack, result.file, f"case {result.case}", problem)
    if not results:
        yield _at(pack, "cases", "", "no cases: add cases/*.yaml, a policy that no case shows is a guess")
        return
    for policy in uncovered(bundle, results):
        file = bundle.policies[policy].file
        yield _at(pack, file, f"policy {policy}", "determines no case: add one to cases/*.yaml that shows it")


def _not_compiled(pack: Pack, error: BundleError) -> Finding:
    place = f"policy {error.policy}" if error.policy else ""
    problem = str(error).removeprefix(error.file).removeprefix(": ").removeprefix(f"{place}: ")
    return _at(pack, error.file, place, problem)


def _at(pack: Pack, file: str, place: str, problem: str) -> Finding:
    return Finding(file=shown(pack.policies / file, pack), place=place, problem=problem)
