from tidemill import runtime as runtime
from tidemill import variables as variables
from tidemill.sdk.annotations import allow_failure as allow_failure
from tidemill.sdk.annotations import unmapped as unmapped
from tidemill.sdk.flows import Flow as Flow
from tidemill.sdk.flows import flow as flow
from tidemill.sdk.logging import get_run_logger as get_run_logger
from tidemill.sdk.pauses import apause_flow_run as apause_flow_run
from tidemill.sdk.pauses import aresume_flow_run as aresume_flow_run
from tidemill.sdk.pauses import pause_flow_run as pause_flow_run
from tidemill.sdk.pauses import resume_flow_run as resume_flow_run
from tidemill.sdk.scopes import tags as tags
from tidemill.sdk.serving import serve as serve
from tidemill.sdk.states import State as State
from tidemill.sdk.tasks import Task as Task
from tidemill.sdk.tasks import task as task
from tidemill.sdk.transactions import Transaction as Transaction

__version__: str
