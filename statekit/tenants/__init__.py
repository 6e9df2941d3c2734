"""Tenant configuration: declared once, layered, frozen for every reader, the same in every process."""

from __future__ import annotations

from statekit.tenants.core import Explanation, Layer, SettingsRejected, TenantChange, TenantsChanged
from statekit.tenants.faces import AsyncTenants, Tenants
from statekit.tenants.settings import TenantSettings

__all__ = [
    "AsyncTenants",
    "Explanation",
    "Layer",
    "SettingsRejected",
    "TenantChange",
    "TenantSettings",
    "Tenants",
    "TenantsChanged",
]
